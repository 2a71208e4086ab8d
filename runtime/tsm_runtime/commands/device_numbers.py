"""The GPUs that `--device` names."""

from __future__ import annotations

import re

from tsm_runtime.errors import UsageError


def device_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of the GPUs; `all` stands for all that the driver shows.

    >>> device_numbers("0,1")
    (0, 1)

    Raises:
        UsageError: it is no list of different numbers.
        BackendError: `all`, and there is no GPU.
    """
    if text == "all":
        from tsm_runtime.backends.cuda.gpu import num_gpus

        return tuple(range(num_gpus()))
    numbers = tuple(int(part) for part in text.split(",") if re.fullmatch(r"\s*[0-9]{1,4}\s*", part))
    if len(numbers) != text.count(",") + 1 or len(set(numbers)) != len(numbers):
        raise UsageError(f"--device {text!r}: expected numbers of GPUs, such as 0 or 0,1, or all")
    return numbers
