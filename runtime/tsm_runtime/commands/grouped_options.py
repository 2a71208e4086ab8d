"""Options that belong together, as one parameter of a command: a dataclass whose fields are options."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields, is_dataclass
from functools import partial, wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

import typer


def panel(title: str) -> Callable[..., Any]:
    """Return `typer.Option` for the options of one section of the help."""
    return partial(typer.Option, rich_help_panel=title)


def expand_groups(function: Callable[..., None]) -> Callable[..., None]:
    """Return a function with one parameter for each field of the dataclasses that `function` takes.

    typer reads options from a function's signature. The fields carry `typer.Option` or `typer.Argument` in
    their annotation, and each has a default; a field may be such a dataclass again. The options keep the
    order of the parameters and fields.

    Raises:
        ValueError: two options have the same name.
    """
    hints = get_type_hints(function, include_extras=True)
    parameters: list[Parameter] = []
    for name, parameter in signature(function).parameters.items():
        if is_dataclass(hints[name]):
            parameters += _options_of(hints[name])
        else:
            parameters.append(parameter.replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY))

    @wraps(function)
    def with_groups(**values: Any) -> None:
        function(**{name: _value(name, hints[name], values) for name in signature(function).parameters})

    with_groups.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return with_groups


def _options_of(group: Any) -> Iterable[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        if is_dataclass(hints[field.name]):
            yield from _options_of(hints[field.name])
        else:
            default = Parameter.empty if field.default is MISSING else field.default
            yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name])


def _value(name: str, kind: Any, values: dict[str, Any]) -> Any:
    """Return the value of an option, or a group made of the values of its fields."""
    if not is_dataclass(kind):
        return values[name]
    hints = get_type_hints(kind, include_extras=True)
    return kind(**{field.name: _value(field.name, hints[field.name], values) for field in fields(kind)})  # type: ignore[operator]
