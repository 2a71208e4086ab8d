"""The reference of all configuration keys, generated from `config.Config` and its docstrings."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import textwrap
from collections.abc import Iterator

import msgspec
import msgspec.inspect

from tsm_train.config import Config

_INTRODUCTION = """# Configuration keys

A run is one TOML file. Every key has a default except `name`; an unknown key is an error that names the
nearest known one. `tsm-train CONFIG --set section.key=value` replaces one. `tsm-train --keys` prints
this page.
"""

_BOUNDS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))


def configuration_reference() -> str:
    """Return the reference in Markdown: a table of keys, types, defaults and meanings per section."""
    sections: list[tuple[str, str, type[msgspec.Struct]]] = [("Run", "", Config)]
    sections += [(f"`[{name}]`", f"{name}.", kind) for name, kind in _sections(Config)]
    return _INTRODUCTION + "".join(_section(title, prefix, kind) for title, prefix, kind in sections)


def _sections(kind: type[msgspec.Struct]) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    for field in msgspec.structs.fields(kind):
        if inner := _struct_of(field.type):
            yield field.name, inner


def _struct_of(annotation: object) -> type[msgspec.Struct] | None:
    info = msgspec.inspect.type_info(annotation)
    options = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    return next((option.cls for option in options if isinstance(option, msgspec.inspect.StructType)), None)


def _section(title: str, prefix: str, kind: type[msgspec.Struct]) -> str:
    notes = _attribute_docstrings(kind)
    rows = [
        f"| `{prefix}{field.name}` | {_type_text(msgspec.inspect.type_info(field.type))} "
        f"| {_default_text(field)} | {notes.get(field.name, '')} |"
        for field in msgspec.structs.fields(kind)
        if _struct_of(field.type) is None
    ]
    table = "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows])
    return f"\n## {title}\n\n{_one_paragraph(inspect.getdoc(kind) or '')}\n\n{table}\n"


def _default_text(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return f"`{msgspec.json.encode(value).decode()}`"


def _type_text(info: msgspec.inspect.Type) -> str:
    """Return e.g. "number >= 0", "`cosine`, `step`", "list of text"."""
    match info:
        case msgspec.inspect.LiteralType():
            return ", ".join(f"`{value}`" for value in info.values)
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            name = "integer" if isinstance(info, msgspec.inspect.IntType) else "number"
            bounds = [
                f"{sign} {getattr(info, key)}" for key, sign in _BOUNDS if getattr(info, key) is not None
            ]
            return " ".join([name, " and ".join(bounds)]).strip()
        case msgspec.inspect.StrType():
            return "text"
        case msgspec.inspect.VarTupleType() | msgspec.inspect.ListType():
            return f"list of {_type_text(info.item_type)}"
        case msgspec.inspect.TupleType():
            return f"[{', '.join(_type_text(item) for item in info.item_types)}]"
        case msgspec.inspect.DictType():
            return f"table of {_type_text(info.value_type)}"
        case msgspec.inspect.UnionType():
            return " or ".join(_type_text(option) for option in info.types)
        case msgspec.inspect.NoneType():
            return "nothing"
    raise TypeError(f"no text for {info}")


def _attribute_docstrings(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Docstrings below the attributes of a class, by attribute, read from its source."""
    source = textwrap.dedent(inspect.getsource(importlib.import_module(kind.__module__)))
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    body = next(node.body for node in classes if node.name == kind.__name__)
    notes = {}
    for statement, following in itertools.pairwise(body):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            notes[statement.target.id] = _one_paragraph(str(following.value.value)).replace("|", "\\|")
    return notes


def _one_paragraph(text: str) -> str:
    return " ".join(text.split())
