"""Strict parsing of TOML: an unknown key raises an error that names the nearest known key."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.files import read_json, read_text

_OTHER_LANGUAGES = (".json", ".yaml", ".yml", ".ini")

_StructT = TypeVar("_StructT", bound=msgspec.Struct)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: the file is unreadable or not TOML.
    """
    text = read_text(path)
    try:
        raw: dict[str, Any] = msgspec.toml.decode(text)
    # tomllib raises the last two for numbers of thousands of digits and for deeply nested tables.
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {error}{_toml_hint(path, text, str(error))}") from error
    return raw


def _toml_hint(path: Path, text: str, message: str) -> str:
    """Return what is probably meant where a text is not TOML."""
    if path.suffix.lower() in _OTHER_LANGUAGES:
        return f"; expected TOML (key = value), not {path.suffix[1:].upper()}"
    place = re.search(r"at line (\d+)", message)
    line = text.splitlines()[int(place[1]) - 1] if place and int(place[1]) <= text.count("\n") + 1 else ""
    if "\\" in line:
        return "; write a path with / or in single quotes"
    if re.fullmatch(r"\s*[\w.-]+\s*=\s*[A-Za-z/.][^\"'#]*", line):
        return "; put text in quotes"
    return ""


def read_toml_or_json(path: Path) -> object:
    """Return the value of a file, which is TOML if its suffix says so, else JSON.

    Raises:
        UsageError: the file is unreadable or malformed, or has a duplicate key.
    """
    if path.suffix.lower() == ".toml":
        return read_toml(path)
    faults: list[str] = []
    content = read_json(path, faults)
    if faults:
        raise UsageError(faults[0])
    return content


def strict(raw: Mapping[str, Any], kind: type[_StructT], where: str) -> _StructT:
    """Convert a TOML table to a struct.

    Raises:
        UsageError: a key is unknown or missing, also in a nested table, or a value is out of range. The
            message begins with `where` and names the key, the value, and the allowed values.
    """
    _refuse_unknown_within(raw, kind, where)
    try:
        return msgspec.convert(raw, kind)
    except OverflowError as error:  # msgspec: a number beyond 64 bits
        raise UsageError(f"{where}: {error}") from error
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {_describe(str(error), raw, kind)}") from error


def refuse_unknown(keys: Iterable[str], known: Sequence[str], where: str) -> None:
    """Check that all keys are known.

    Raises:
        UsageError: a key is unknown; the message names the nearest known key, else all known keys.
    """
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise UsageError(f"{where}: unknown key {key!r}; {hint}")


def _refuse_unknown_within(raw: Mapping[str, Any], kind: type[msgspec.Struct], where: str) -> None:
    kinds = typing.get_type_hints(kind)
    refuse_unknown(raw, kind.__struct_fields__, where)
    for key, value in raw.items():
        if _is_struct(kinds[key]) and isinstance(value, Mapping):
            _refuse_unknown_within(value, kinds[key], f"{where} [{key}]")
        elif isinstance(value, list) and _is_struct(element := _kind_within(kinds[key], "0")):
            for number, entry in enumerate(value, start=1):
                if isinstance(entry, Mapping):
                    _refuse_unknown_within(entry, element, f"{where}: {key.removesuffix('s')} {number}")


def _describe(message: str, raw: Mapping[str, Any], kind: Any) -> str:
    """Return a message of msgspec with the key, the value and the allowed values.

    >>> class Run(msgspec.Struct):
    ...     epochs: int
    ...     views: list[Literal["front", "back", "both"]]
    >>> _describe("Expected `int` >= 1 - at `$.epochs`", {"epochs": 0}, Run)
    'epochs = 0: Expected `int` >= 1'
    >>> _describe("Invalid enum value 'bin' - at `$.views[0]`", {"views": ["bin"]}, Run)
    "views[0] = 'bin': expected 'front', 'back' or 'both'"
    """
    match = re.fullmatch(r"(.*) - at `\$\.([\w.]+(?:\[\d+\])?)`", message)
    if match is None:
        return message
    problem, place = match.groups()
    value: Any = raw
    for key in re.findall(r"\w+", place):
        kind = _kind_within(kind, key)
        value = value[int(key) if isinstance(value, list) else key]
    if problem.startswith("Invalid enum value"):
        problem = _expected(value, _choices(kind))
    shown = "" if isinstance(value, Mapping) else f" = {value!r}"
    return f"{place}{shown}: {problem}"


def _expected(value: Any, choices: Sequence[Any]) -> str:
    """Return the allowed values, and the one that was probably meant."""
    *others, last = map(repr, choices)
    near = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}? " if near and len(choices) > 2 else ""
    return f"{hint}expected {', '.join(others)} or {last}"


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _kind_within(kind: Any, key: str) -> Any:
    """Return the type of a field of a struct, or of the elements of a list."""
    if _is_struct(kind):
        return typing.get_type_hints(kind, include_extras=False)[key]
    inner = typing.get_args(kind)
    return inner[0] if inner else Any


def _choices(kind: Any) -> list[Any]:
    """Return all values of a Literal, or of the Literals in a union."""
    if typing.get_origin(kind) is Literal:
        return list(typing.get_args(kind))
    return [choice for part in typing.get_args(kind) for choice in _choices(part)]


def convert(raw: object, kind: type[_StructT], where: str) -> _StructT:
    """Convert a value to a struct.

    Raises:
        UsageError: the value does not match the struct; the message begins with `where`.
    """
    try:
        return msgspec.convert(raw, kind)
    # msgspec raises the last two for a number beyond 64 bits and for text with half a surrogate pair.
    except (msgspec.ValidationError, OverflowError, UnicodeEncodeError) as error:
        raise UsageError(f"{where}: {error}") from error
