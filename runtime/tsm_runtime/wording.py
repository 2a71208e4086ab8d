"""Wording of messages: counts with their nouns."""

from __future__ import annotations

from collections.abc import Sequence


def first_of(names: Sequence[str], most: int) -> str:
    """Return the first few names, separated by commas.

    >>> first_of(["a", "b", "c"], 2), first_of(["a"], 2)
    ('a, b, ...', 'a')
    """
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its kind."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun in the right form.

    Args:
        number: how many.
        noun: what, in the singular; the last word takes the plural.
        plural: the plural, where it is not the noun with an s.

    >>> counted(1, "error"), counted(0, "video"), counted(2, "class", "classes")
    ('1 error', '0 videos', '2 classes')
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
