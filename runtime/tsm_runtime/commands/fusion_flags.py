"""Options of a fusion as a command line gives them: None where not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.options import FusionOptions, checked_weights


def given_options(given: Mapping[str, Any]) -> FusionOptions:
    """Return fusion options by name, and the defaults of those that are None or missing.

    Raises:
        UsageError: a value is out of range; the message begins with the option.
    """
    try:
        return FusionOptions(**{name: value for name, value in given.items() if value is not None})
    except UsageError as error:
        raise UsageError(f"--{error}") from error


def refuse_beside_ensemble(given: Mapping[str, Any], path: Path) -> None:
    """Refuse options that an ensemble's file states.

    Raises:
        UsageError: names the first that is given.
    """
    for name, value in given.items():
        if value is not None:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} beside --ensemble: {path} says it; change it there")


def given_weights(text: str | None, num_members: int) -> tuple[float, ...]:
    """Return the weights that "0.6,0.4" names, one for each member; None: equal ones.

    Raises:
        UsageError: not numbers above 0, or not one for each member.
    """
    if text is None:
        return checked_weights(None, num_members)
    weights = []
    for part in text.split(","):
        try:
            weights.append(float(part))
        except ValueError:
            raise UsageError(f"--weights {text}: {part!r} is no number; expected e.g. 0.6,0.4") from None
    try:
        return checked_weights(weights, num_members)
    except UsageError as error:
        raise UsageError(f"--weights {text}: {error}") from error
