"""Strict reading of numbers in text files: Python itself reads `1_0` as 10."""

from __future__ import annotations

import re

from tsm_runtime.errors import UsageError

_NUMBER = re.compile(
    r"\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\s*|\s*[+-]?(?:nan|inf(?:inity)?)\s*", re.I
)
_CLOCK = re.compile(r"\s*(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)\s*")


def parse_number(text: str, *, decimal_comma: bool = False) -> float:
    """Parse a number.

    Args:
        text: decimal digits with an optional point and exponent; also nan and inf, which callers refuse.
        decimal_comma: accept a decimal comma, as spreadsheets of many languages write it.

    Raises:
        ValueError: the text is not a number.

    >>> parse_number("1,5", decimal_comma=True)
    1.5
    """
    if decimal_comma and text.count(",") == 1:
        text = text.replace(",", ".")
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is no number")
    return float(text)


def number_in(where: str, name: str, text: str) -> float:
    """Return the number in a cell or an attribute; a decimal comma is accepted.

    Args:
        where: place, for messages.
        name: name of the cell or attribute.
        text: its content.

    Raises:
        UsageError: the text is not a number.
    """
    try:
        return parse_number(text, decimal_comma=True)
    except ValueError:
        raise UsageError(f"{where}: {name} is {text!r}; expected a number") from None


def parse_seconds(text: str, *, decimal_comma: bool = False) -> float:
    """Parse seconds, given as a number or as a clock: `83.5`, `1:23.5` or `0:01:23.5`.

    Raises:
        ValueError: the text is neither.

    >>> parse_seconds("1:23.5")
    83.5
    """
    if decimal_comma:
        text = text.replace(",", ".")
    clock = _CLOCK.fullmatch(text)
    if clock is None:
        return parse_number(text)
    hours, minutes, seconds = clock.groups()
    return float(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)
