"""Tolerances of each precision against fp32, with their reasons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tsm_runtime.errors import UsageError
from tsm_runtime.verification.compare import HeadDifference, SegmentAgreement


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Limits that a comparison must keep to pass.

    Args:
        max_abs_error: largest difference of a probability, on every input; 1 allows any.
        least_top1: share of a video's clips with the same most probable class, for each head.
        least_segments: share of a video's segments that both models have.

    Agreement is not checked on noise: a network gives nearly the same scores to all clips of noise, often
    with two classes close together, so a changed class there means nothing.
    """

    max_abs_error: float
    least_top1: float = 0.0
    least_segments: float = 0.0

    def problems(
        self, heads: Mapping[str, HeadDifference], segments: SegmentAgreement | None
    ) -> Iterator[str]:
        """Yield a line for each exceeded limit.

        Args:
            heads: difference of each output.
            segments: agreement on a video; None for noise.
        """
        for name, head in heads.items():
            if head.max_abs_error > self.max_abs_error:
                yield f"{name}: error {head.max_abs_error:.2g}, allowed is {self.max_abs_error:g}"
            if segments is not None and head.top1_agreement < self.least_top1:
                yield f"{name}: top-1 agreement {_percent(head.top1_agreement)}, {_least(self.least_top1)}"
        if segments is not None and segments.share < self.least_segments:
            yield f"segment agreement {_percent(segments.share)}, {_least(self.least_segments)}"


# An error below the allowed one moves the most probable class only where the reference itself has two classes
# within twice that error of each other; so fp32 and fp16 need no limit of agreement beside it.
TOLERANCES: Mapping[str, Tolerance] = {
    # Engines sum in another order: some 1e-6 of a probability after fifty layers. TF32 convolutions, of ten
    # bits, would be about as far off as fp16.
    "fp32": Tolerance(max_abs_error=1e-4),
    # Weights and every layer's output are rounded to eleven bits (5e-4). Largest seen: 8e-3 with a trained
    # efficientnet_lite0 on 16 videos, 2.5e-2 with random weights on noise.
    "fp16": Tolerance(max_abs_error=5e-2),
    # Eight bits of mantissa in every layer, which adds up: seen with the same net on 16 videos,
    # 872 clips: largest error 0.09, top-1 99.9 %, segments 96 % or more but for one video of 15 (87 %).
    "bf16": Tolerance(max_abs_error=0.25, least_top1=0.95, least_segments=0.6),
    # Near a decision eight bits move a probability by 0.1 to 0.3 in good models too, so they are judged by
    # what they decide. Seen with the same net on windows of 64 clips: calibrated on clips of the data, top-1
    # 95 % or more and segments 75 % or more; calibrated on dark noise, or with one scale per tensor, top-1 58
    # to 84 % in half of the windows. One clip in the middle of a segment can cost three segments: the wider
    # limit.
    "int8": Tolerance(max_abs_error=1.0, least_top1=0.9, least_segments=0.5),
    "int8-trt": Tolerance(max_abs_error=1.0, least_top1=0.9, least_segments=0.5),
    # preprocess.onnx: other pictures, by less than a level on the mean. Near a decision that moves a
    # probability by up to 0.17 (seen with the demo), so it is judged by what is decided, as int8 is.
    "pictures": Tolerance(max_abs_error=1.0, least_top1=0.9, least_segments=0.5),
}
"""Tolerance by precision as in the manifest, or by its substitute."""


def tolerance_for(precision: str, max_abs_error: float | None = None) -> Tolerance:
    """Return the tolerance for a model of a precision.

    Args:
        precision: as in the manifest.
        max_abs_error: replaces the precision's own limit.

    Raises:
        UsageError: `max_abs_error` is out of the range of differences of probabilities.
    """
    if max_abs_error is None:
        return TOLERANCES[precision]
    if not (math.isfinite(max_abs_error) and 0 <= max_abs_error <= 1):
        raise UsageError(f"--tolerance {max_abs_error:g}: expected 0 to 1, a difference of probabilities")
    return replace(TOLERANCES[precision], max_abs_error=max_abs_error)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _least(share: float) -> str:
    return f"at least {100 * share:g} % is required"
