"""Values of a user's JSON as checked structs."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from tsm_runtime.errors import UsageError

__all__ = ["convert"]

_StructT = TypeVar("_StructT", bound=msgspec.Struct)


def convert(raw: object, kind: type[_StructT], where: str) -> _StructT:
    """Return a value as a struct.

    Raises:
        UsageError: it has another shape; the message begins with `where`.
    """
    try:
        return msgspec.convert(raw, kind)
    # The last two are of msgspec: a number beyond 64 bits, and text with half a surrogate pair.
    except (msgspec.ValidationError, OverflowError, UnicodeEncodeError) as error:
        raise UsageError(f"{where}: {error}") from error
