"""Options of a fusion as a command line gives them: None where not."""

from __future__ import annotations

from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.candidates import Denominator
from tsm_runtime.fusion.fuse import FusionOptions, Method, checked_weights


def given_options(
    *,
    method: Method | None = None,
    iou: float | None = None,
    denominator: Denominator | None = None,
    min_score: float | None = None,
    sigma: float | None = None,
) -> FusionOptions:
    """Return the given options, and the defaults of those that are not.

    Raises:
        UsageError: a value is out of range; the message begins with the option.
    """
    default = FusionOptions()
    try:
        return FusionOptions(
            method=method or default.method,
            iou=default.iou if iou is None else iou,
            denominator=denominator or default.denominator,
            min_score=default.min_score if min_score is None else min_score,
            sigma=default.sigma if sigma is None else sigma,
        )
    except UsageError as error:
        raise UsageError(f"--{error}") from error


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
