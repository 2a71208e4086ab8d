"""Parsing of tIoU thresholds from the command line."""

from __future__ import annotations

import math

import numpy as np

from tsm_runtime.errors import UsageError


def parse_thresholds(text: str) -> list[float]:
    """Parse numbers and ranges first:step:last, separated by commas.

    >>> parse_thresholds("0.5:0.25:1,0.3")
    [0.5, 0.75, 1.0, 0.3]

    Raises:
        UsageError: the text has another form, a number is outside (0, 1] or given twice.
    """
    values: list[float] = []
    for part in text.split(","):
        try:
            numbers = [float(number) for number in part.split(":")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 3) or not all(math.isfinite(number) for number in numbers):
            raise UsageError(
                f"--tiou: {part.strip()!r} is no number and no range; as in 0.5,0.75 or 0.5:0.05:0.95"
            )
        values += numbers if len(numbers) == 1 else _range(*numbers)
    for position, value in enumerate(values):
        if not 0 < value <= 1:
            raise UsageError(f"--tiou: {value:g} is not in (0, 1]")
        if f"{value:g}" in (f"{other:g}" for other in values[:position]):
            raise UsageError(f"--tiou: {value:g} is given twice")
    return values


def _range(first: float, step: float, last: float) -> list[float]:
    if step <= 0 or last < first or (last - first) / step > 1e4:
        raise UsageError(f"--tiou: {first:g}:{step:g}:{last:g} is no range; as in 0.5:0.05:0.95")
    steps = round((last - first) / step)
    if abs(first + steps * step - last) > 1e-9:
        raise UsageError(f"--tiou: {first:g}:{step:g}:{last:g} does not end at {last:g} in whole steps")
    # Computed as in the official code: a tIoU equal to a threshold may depend on its last digit.
    return [float(value) for value in np.linspace(first, last, steps + 1)]
