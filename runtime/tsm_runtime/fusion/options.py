"""Options and weights of a fusion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.candidates import (
    Denominator,
)
from tsm_runtime.wording import counted

Method = Literal["paper", "wbf", "nms", "soft-nms-linear", "soft-nms-gaussian"]
"""Treatment of overlapping segments of one class (tIoU strictly greater than the threshold).

- paper: they become their union with the maximum confidence, repeated until no pair is left.
- wbf: weighted boxes fusion (Solovyev, Wang, Gabruseva 2021, arXiv 1910.13302) in one dimension. Segments are
  visited by falling w_i c_i; each joins the cluster whose fused span it overlaps most, or founds one. A fused
  bound is the mean of the cluster's T bounds weighted by w_i c_i; the confidence is their mean w_i c_i times
  min(T, N) / sum(w_i) for N members (denominator all), or their weighted mean (present).
- nms: of the paper's candidates, visited by falling confidence, each drops those that overlap it.
- soft-nms-linear, soft-nms-gaussian (Bodla, Singh, Chellappa, Davis 2017, arXiv 1704.04503): as nms, but the
  overlapping ones only lose confidence: times 1 - tIoU where it exceeds the threshold, or, for every overlap,
  times exp(-tIoU^2 / sigma). Use a minimum score (0.001 in the source's code) to end the long tail.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionOptions:
    """How to fuse.

    Args:
        method: see `Method`.
        iou: temporal IoU that a pair must exceed to count as overlapping, 0 to 1; 1 merges nothing.
        denominator: see `candidates.Denominator`.
        min_score: candidates of lower confidence are dropped before they can widen or weaken others (not by
            wbf, whose confidences are known only at the end), and so are fused segments.
        sigma: width of soft-nms-gaussian.

    Raises:
        UsageError: a value is out of range.
    """

    method: Method = "paper"
    iou: float = 0.5
    denominator: Denominator = "all"
    min_score: float = 0.0
    sigma: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.iou <= 1:
            raise UsageError(f"iou {self.iou:g}: expected 0 to 1")
        if not 0 <= self.min_score <= 1:
            raise UsageError(f"min-score {self.min_score:g}: expected 0 to 1")
        if not 0 < self.sigma < math.inf:
            raise UsageError(f"sigma {self.sigma:g}: expected a number above 0")


def checked_weights(weights: Sequence[float] | None, num_members: int) -> tuple[float, ...]:
    """Return the weights of members, 1 each when None.

    Raises:
        UsageError: not one weight for each member, or one that is not a finite number above 0.
    """
    if weights is None:
        return (1.0,) * num_members
    if len(weights) != num_members:
        raise UsageError(
            f"{counted(len(weights), 'weight')} for {counted(num_members, 'member')};"
            " give one for each, in their order"
        )
    for weight in weights:
        if not 0 < weight < math.inf:
            raise UsageError(f"weight {weight:g}: expected a number above 0; leave out a member instead")
    return tuple(map(float, weights))


def describe_fusion(options: FusionOptions) -> dict[str, object]:
    """Return the options for `external_data`; includes sigma if the method uses it."""
    described: dict[str, object] = {
        "method": options.method,
        "iou": options.iou,
        "denominator": options.denominator,
        "min_score": options.min_score,
    }
    return {**described, "sigma": options.sigma} if options.method == "soft-nms-gaussian" else described
