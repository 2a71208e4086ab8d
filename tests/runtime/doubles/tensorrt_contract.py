"""A stand-in for TensorRT's module, made of nothing but the stored contract of its bindings.

As with the real bindings, an unknown name is an AttributeError; an unknown keyword, a wrong number or a wrong
kind of arguments a TypeError. What a call does is added by `implements`, which takes names of the contract
only; a call without it gives an empty value of its return type.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

BINDINGS = Path(__file__).parent / "bindings"
CONTRACTS = {path.stem: path for path in sorted(BINDINGS.glob("*.json"))}
"""`tensorrt-11.4.0.106` and the like, to the stored file."""

KINDS = {
    "builder": "Builder",
    "cache": "ITimingCache",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "convolution": "IConvolutionLayer",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "layer": "ILayer",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",  # or OnnxParserRefitter
    "profile": "IOptimizationProfile",
    "refitter": "Refitter",
    "runtime": "Runtime",
    "tensor": "ITensor",
}
"""Names under which the sources hold TensorRT's objects."""


@dataclass(frozen=True)
class Parameter:
    name: str
    kind: str
    default: str | None


@dataclass(frozen=True)
class Signature:
    """One overload of a method, without the object itself.

    >>> Signature.parse("f(name: str, memory: SupportsInt = 0) -> bool").returns
    'bool'
    """

    parameters: tuple[Parameter, ...]
    returns: str

    @classmethod
    def parse(cls, line: str) -> Signature:
        inside, _, returns = line.partition("(")[2].rpartition(") -> ")
        found = []
        for text in _split(inside):
            name, _, rest = text.partition(": ")
            kind, _, default = rest.partition(" = ")
            found.append(Parameter(name, kind, default or None))
        return cls(tuple(found), returns)

    def bind(self, given: tuple[object, ...], named: Mapping[str, object]) -> dict[str, object] | None:
        """Return arguments by name, or None where they do not fit; defaults are left out."""
        names = [parameter.name for parameter in self.parameters]
        if len(given) > len(names) or set(named) - set(names[len(given) :]):
            return None
        bound = dict(zip(names, given, strict=False)) | dict(named)
        needed = {parameter.name for parameter in self.parameters if parameter.default is None}
        return None if needed - set(bound) else bound


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no bracket."""
    return [part for part in re.split(r", (?![^\[]*\])", text) if part]


class EnumValue:
    """A value of an enum of pybind11: a number only through `int`."""

    def __init__(self, enum: str, name: str, value: int) -> None:
        self._enum, self.name, self.value = enum, name, value

    def __int__(self) -> int:
        return self.value

    __index__ = __int__

    def __repr__(self) -> str:
        return f"<{self._enum}.{self.name}: {self.value}>"


class _Kind(type):
    """pybind11's metaclass insists that a subclass calls the constructor of its base."""

    def __call__(cls, *arguments: object, **named: object) -> object:
        made: Any = super().__call__(*arguments, **named)
        if not hasattr(made, "double"):
            raise TypeError(f"{cls.__mro__[-2].__name__}.__init__() must be called when overriding __init__")
        return made


class ContractModule(ModuleType):
    """The module of one version.

    Args:
        contract: content of a stored file.
    """

    __version__: str

    def __init__(self, contract: Mapping[str, Any]) -> None:
        super().__init__(contract["module"])
        self.__version__ = contract["version"]
        self.used: set[str] = set()
        """Class.member of everything that was called, read or set."""
        self._behaviour: dict[str, Callable[..., object]] = {}
        self._classes: dict[str, type] = {}
        self._contract = contract
        for path, values in contract["enums"].items():
            if "." not in path:
                setattr(self, path, self._enum(path, values))
        for name in sorted(contract["classes"], key=lambda name: name in contract["bases"]):
            self._classes[name] = self._class(name, contract["classes"][name])
            setattr(self, name, self._classes[name])

    def implements(self, *names: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
        """Let a function do what `Class.member` does; it gets the object and the arguments by name.

        A property's function is called when it is read; `Class.__del__` may be named too.
        """

        for name in names:
            kind, _, member = name.partition(".")
            if member != "__del__" and not self._lines(kind, member):
                raise AttributeError(f"{self.__name__} {self.__version__} has no {name}")

        def add(function: Callable[..., object]) -> Callable[..., object]:
            self._behaviour.update(dict.fromkeys(names, function))
            return function

        return add

    def make(self, kind: str, *content: object, **state: object) -> Any:
        """Return an object that the library would make; `state` is what its behaviour sees as `.double`."""
        cls = self._classes[kind]
        made: Any = cls.__new__(cls, *content)
        made.double = SimpleNamespace(**state)
        return made

    def _lines(self, kind: str, member: str) -> list[str]:
        """Return what the contract says of a method (each overload) or property."""
        lines = self._contract["classes"].get(kind, [])
        return [line for line in lines if line.startswith((f"{member}(", f"{member}: "))]

    def _enum(self, path: str, values: str) -> type:
        members = {}
        for entry in values.split(", "):
            name, _, value = entry.partition(" = ")
            members[name] = EnumValue(path, name, int(value))
        return type(path, (), {**members, "__members__": members, "__slots__": ()})

    def _class(self, name: str, lines: Iterable[str]) -> type:
        # Objects of the real bindings take no attributes but their own; IHostMemory can be read as bytes.
        space: dict[str, Any] = {} if name == "IHostMemory" else {"__slots__": ("__weakref__", "double")}
        for line in lines:
            member = re.match(r"\w+", line)
            assert member is not None
            if " = " in line and "(" not in line:
                severity = self._severity()
                space[member[0]] = severity.__members__[member[0]]
                space["Severity"] = severity
            elif line[len(member[0])] == "(":
                space[member[0]] = self._method(name, member[0])
            else:
                space[member[0]] = self._property(name, member[0], line)
        space.setdefault("__init__", self._no_constructor(name))
        space["__del__"] = self._deleted(name)
        base = self._contract["bases"].get(name)
        bases = (self._classes[base],) if base else (bytes,) if name == "IHostMemory" else (object,)
        if base:
            space["__slots__"] = ()
        return _Kind(name, bases, space)

    def _severity(self) -> Any:
        if "ILogger.Severity" not in self._classes:
            values = self._contract["enums"]["ILogger.Severity"]
            self._classes["ILogger.Severity"] = self._enum("Severity", values)
        return self._classes["ILogger.Severity"]

    def _method(self, kind: str, member: str) -> Callable[..., object]:
        signatures = [Signature.parse(line) for line in self._lines(kind, member)]
        name = f"{kind}.{member}"

        def call(this: Any, *given: object, **named: object) -> object:
            self.used.add(name)
            signature, bound = self._overload(name, signatures, given, named)
            if member == "__init__":
                this.double = SimpleNamespace()
            behaviour = self._behaviour.get(name)
            return behaviour(this, **bound) if behaviour else self._empty(signature.returns)

        return call

    def _overload(
        self, name: str, signatures: list[Signature], given: tuple[object, ...], named: Mapping[str, object]
    ) -> tuple[Signature, dict[str, object]]:
        for signature in signatures:
            bound = signature.bind(given, named)
            if bound is not None and all(
                self._is(bound[p.name], p.kind) or (bound[p.name] is None and p.default == "None")
                for p in signature.parameters
                if p.name in bound
            ):
                return signature, bound
        supported = "; ".join(self._lines(*name.split(".")))
        got = [*map(repr, given), *(f"{key}={value!r}" for key, value in named.items())]
        raise TypeError(f"{name}(): incompatible function arguments; supported: {supported}; got {got}")

    def _property(self, kind: str, member: str, line: str) -> property:
        name = f"{kind}.{member}"
        of_type = line.partition(": ")[2].removesuffix(", settable")

        def read(this: Any) -> object:
            self.used.add(name)
            behaviour = self._behaviour.get(name)
            if behaviour:
                return behaviour(this)
            return getattr(this.double, f"set_{member}", False if of_type == "bool" else self._empty(of_type))

        def write(this: Any, value: object) -> None:
            self.used.add(name)
            if not self._is(value, of_type):
                raise TypeError(f"{name}: {line}; got {value!r}")
            setattr(this.double, f"set_{member}", value)

        return property(read, write if line.endswith(", settable") else None)

    def _no_constructor(self, kind: str) -> Callable[..., None]:
        def refuse(this: object, *given: object, **named: object) -> None:
            raise TypeError(f"{kind}: No constructor defined!")

        return refuse

    def _deleted(self, kind: str) -> Callable[[Any], None]:
        def delete(this: Any) -> None:
            behaviour = self._behaviour.get(f"{kind}.__del__")
            if behaviour and hasattr(this, "double"):
                behaviour(this)

        return delete

    def _is(self, value: object, kind: str) -> bool:
        """Whether pybind11 takes a value for an argument of a type, as written in a signature."""
        enum = self._enum_of(kind)
        if enum is not None:
            return value in enum.__members__.values()
        if kind == "Dims":
            return isinstance(value, self._classes["Dims"]) or _all_index(value)
        if kind in self._classes:
            return value is None or isinstance(value, self._classes[kind])
        if kind == "Sequence[SupportsInt]":
            return _all_index(value)
        return _PLAIN.get(kind.partition("[")[0], lambda value: True)(value)

    def _enum_of(self, kind: str) -> Any:
        if kind in ("ILogger.Severity", "Severity"):
            return self._severity()
        return getattr(self, kind, None) if kind in self._contract["enums"] else None

    def _empty(self, kind: str) -> object:
        enum = self._enum_of(kind)
        if enum is not None:
            return next(iter(enum.__members__.values()))
        if kind in self._classes:
            return self.make(kind)
        empty = {"bool": True, "int": 0, "str": "", "list": [], "float": 0.0, "tuple": ()}
        return empty.get(kind.partition("[")[0])


def _all_index(value: object) -> bool:
    return isinstance(value, tuple | list) and all(hasattr(number, "__index__") for number in value)


def _is_buffer(value: object) -> bool:
    try:
        memoryview(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


_PLAIN: dict[str, Callable[[object], bool]] = {
    "SupportsInt": lambda value: hasattr(value, "__index__"),  # a float is refused
    "int": lambda value: hasattr(value, "__index__"),
    "SupportsFloat": lambda value: hasattr(value, "__float__") or hasattr(value, "__index__"),
    "float": lambda value: hasattr(value, "__float__") or hasattr(value, "__index__"),
    "bool": lambda value: isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "tuple": lambda value: isinstance(value, tuple),
    "list": lambda value: isinstance(value, list),
    "slice": lambda value: isinstance(value, slice),
    "Buffer": _is_buffer,
    "Sequence": lambda value: isinstance(value, tuple | list),
}


def contract_module(name: str) -> ContractModule:
    """Return the stand-in of a stored version, `tensorrt-11.4.0.106` for one."""
    return ContractModule(json.loads(CONTRACTS[name].read_text()))


def source_uses(source: str, others: Collection[str] = ()) -> Iterator[str]:
    """Names of TensorRT that a source touches: `DataType.UINT8` on the module, `ICudaEngine.num_io_tensors`.

    An object is known by the name of the variable that holds it, but for `others`. getattr and hasattr are no
    uses: what they name may be missing.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute):
            continue
        value = node.value
        if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name) and value.value.id == "trt":
            yield f"{value.attr}.{node.attr}"
        elif isinstance(value, ast.Name) and value.id == "trt":
            yield node.attr
        else:
            held = value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", "")
            name = held.lstrip("_")
            kind = KINDS.get(name)
            if kind is not None and not {name, f"{name}.{node.attr}"} & set(others):
                yield f"{kind}.{node.attr}"
