"""The GPUs that `--device` and `load(device=)` name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tsm_runtime.errors import UsageError


def device_numbers(named: str | int | Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of the GPUs; `all` stands for all that the driver shows.

    >>> device_numbers("0,1"), device_numbers(2), device_numbers([1, 0])
    ((0, 1), (2,), (1, 0))

    Raises:
        UsageError: it is no list of different numbers.
        BackendError: `all`, and there is no GPU.
    """
    if named == "all":
        from tsm_runtime.backends.cuda.gpu import num_gpus

        return tuple(range(num_gpus()))
    text = (
        named if isinstance(named, str) else ",".join(map(str, [named] if isinstance(named, int) else named))
    )
    numbers = tuple(int(part) for part in text.split(",") if re.fullmatch(r"\s*[0-9]{1,4}\s*", part))
    if len(numbers) != text.count(",") + 1 or len(set(numbers)) != len(numbers):
        raise UsageError(f"device {text!r}: expected numbers of GPUs, such as 0 or 0,1, or all")
    return numbers
