"""The comparison of one model file with the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tsm_runtime.verification.compare import HeadDifference, SegmentAgreement
from tsm_runtime.verification.pictures import PictureDifference
from tsm_runtime.verification.tolerances import Tolerance
from tsm_runtime.verification.variants import Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Comparison of a model file with the reference on one set of clips.

    Args:
        variant: the file and the engine requested to run it.
        backend: the backend that ran it.
        clips: name of the clip set.
        num_clips: number of clips.
        batch_sizes: clips per call of the file; the reference gets them one by one.
        heads: difference of each output.
        segments: agreement on a video, the reference's segments first; None for noise.
        tolerance: limits of the comparison.
        pictures: for `preprocess.onnx`, whose pictures the reference scored: their difference from the CPU's.
    """

    variant: Variant
    backend: str
    clips: str
    num_clips: int
    batch_sizes: tuple[int, ...]
    heads: Mapping[str, HeadDifference]
    tolerance: Tolerance
    segments: SegmentAgreement | None = None
    pictures: PictureDifference | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """Differences beyond tolerance, one line each."""
        beyond = self.pictures.problem() if self.pictures is not None else None
        return (*self.tolerance.problems(self.heads, self.segments), *([beyond] if beyond else []))
