"""Settings of decoding in bundles and configurations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

DecodingMethod = Literal["merge", "viterbi", "durations", "proposals"]
"""How frame scores become segments.

- merge: the label of a frame is that with the highest score; equal neighbours form a segment (the paper).
- viterbi: the sequence of labels with the highest sum of log scores, less `switch_cost` for each change.
- durations: as viterbi, plus the log probability of the length of each segment (semi-Markov).
- proposals: each frame proposes a segment by its distances; soft-NMS of each class thins them out.
"""

SegmentScore = Literal["max", "mean"]
"""The confidence of a segment: the highest or the mean score of its label over its frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthPrior:
    """The lengths of the segments of one label: log-normal, fitted to annotations.

    Args:
        label: action label.
        mean_log: mean of ln(seconds).
        std_log: standard deviation of ln(seconds), above 0.

    Raises:
        ValueError: a value is out of range.
    """

    label: str
    mean_log: float
    std_log: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean_log):
            raise ValueError(f"length prior of {self.label!r}: mean_log {self.mean_log} is not finite")
        if not 0 < self.std_log < math.inf:
            raise ValueError(
                f"length prior of {self.label!r}: std_log {self.std_log:g}: expected more than 0"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How the scores of frames become segments.

    Args:
        method: see `DecodingMethod`.
        smoothing_seconds: width of a centred moving average of the frame scores; 0: none.
        switch_cost: for viterbi and durations: cost of each change of label, in nats.
        lengths: for durations: prior of each action label; labels without one have no preference.
        length_weight: for durations: factor of the log prior.
        actionness_weight: how much log(actionness) adds to the log scores of actions, and log(1 - actionness)
            to the background; 0: not at all.
        refine_seconds: width of the weights with which the predicted distances of frames near a bound move
            it; 0: bounds stay on the grid of frames.
        refine_limit_seconds: maximum shift of a bound.
        score: see `SegmentScore`.
        temperature: of the confidences, see `segments.temperature`; above 1 lowers high ones. 1: as they are.
        suppression_sigma: for proposals: width of the Gaussian of soft-NMS.
        min_proposal: for proposals: frames with a lower score propose nothing.

    Raises:
        ValueError: a value is out of range.
    """

    method: DecodingMethod = "merge"
    smoothing_seconds: float = 0.0
    switch_cost: float = 0.0
    lengths: tuple[LengthPrior, ...] = ()
    length_weight: float = 1.0
    actionness_weight: float = 0.0
    refine_seconds: float = 0.0
    refine_limit_seconds: float = 0.5
    score: SegmentScore = "max"
    temperature: float = 1.0
    suppression_sigma: float = 0.5
    min_proposal: float = 0.05

    def __post_init__(self) -> None:
        for name in (
            "smoothing_seconds",
            "switch_cost",
            "length_weight",
            "actionness_weight",
            "refine_seconds",
            "refine_limit_seconds",
        ):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"decoding: {name} {getattr(self, name):g}: expected 0 or more")
        for name in ("suppression_sigma", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"decoding: {name} {getattr(self, name):g}: expected more than 0")
        if not 0 < self.min_proposal <= 1:
            raise ValueError(f"decoding: min_proposal {self.min_proposal:g}: expected more than 0, at most 1")
        names = [prior.label for prior in self.lengths]
        if len(set(names)) < len(names):
            raise ValueError(f"decoding: two length priors for one label: {', '.join(names)}")
