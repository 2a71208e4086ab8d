"""Differences between evaluators: each is a `Mode`, described as data in one place.

`tsm` is the default. The other modes reproduce the figures of the evaluator they are named after, including
its oddities; their differences to ActivityNet were read from the evaluators' sources. This module imports
nothing heavy, because `tsm-eval --help` prints the table.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

DEFAULT_TIOU_THRESHOLDS = (0.5, 0.75, 0.95)
"""Thresholds of the BinEgo-360 challenge; its score is the mean of the three mAPs."""

TIOU_TOLERANCE = 1e-9
"""Tolerance below a threshold that a tIoU still reaches: bounds on a grid often give exactly 0.5 or 0.75."""

_TENTHS = "0.5:0.05:0.95"


@dataclass(frozen=True, slots=True, kw_only=True)
class CutGrid:
    """The 360+x kit's treatment of bounds, which lie inside a cut of `seconds`.

    Args:
        seconds: length of a cut; bounds are limited to [0, seconds].
        decimals: bounds are first rounded to this number of decimals.
        snap_seconds: a prediction's bound that is nearer than this to an end of the cut moves to that end.
    """

    seconds: float = 10.0
    decimals: int = 2
    snap_seconds: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchRules:
    """Rules of matching predictions with instances (see `matching` for the protocol itself).

    Args:
        ties: order of predictions with equal scores. "time" is (video id, start, end), and equal tIoUs go to
            the first instance by (start, end), independent of the order of the files. "first_listed" and
            "last_listed" are orders in the file; equal tIoUs then go to the instance that is listed last.
        tiou_tolerance: a tIoU that is at most this much below a threshold still reaches it.
        one_to_one: an instance is found at most once. False counts every prediction that reaches an
            instance, so that recall can exceed 1.
        cut: treatment of bounds inside a cut; None: bounds stay as they are.
        single_precision: tIoUs are rounded to 32 bits, so that a tIoU of 0.7 stays below 0.7.
    """

    ties: Literal["time", "first_listed", "last_listed"] = "time"
    tiou_tolerance: float = TIOU_TOLERANCE
    one_to_one: bool = True
    cut: CutGrid | None = None
    single_precision: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One evaluator: its preparation of the data, its rules of matching, its thresholds.

    Args:
        summary: one line on the differences and the purpose of the mode.
        thresholds: default tIoU thresholds, in the form of `--tiou`.
        takes_any_bounds: predictions of length zero, or that start below 0, are evaluated like others; else
            they are left out and counted.
        unknown_videos: predictions in videos without truth are ignored, or count as false positives.
        unknown_labels: predictions of classes without truth are ignored; or refused, if the evaluator itself
            stops; or "collide": their raw class id is used as a position among the true classes.
        empty_truth: instances of length zero count as missed, or are left out.
        duplicate_seconds: an instance is dropped if an earlier one in its video has the same label and both
            bounds within this distance; None keeps all.
        min_truth_seconds: shorter instances are dropped.
        min_prediction_seconds: predictions that are not longer are dropped; 0 keeps all.
        strip_truth_ids: number of characters cut from the front of the truth's video ids.
    """

    name: str
    summary: str
    thresholds: str
    rules: MatchRules
    takes_any_bounds: bool = True
    unknown_videos: Literal["ignore", "count"] = "count"
    unknown_labels: Literal["ignore", "refuse", "collide"] = "ignore"
    empty_truth: Literal["count", "drop"] = "count"
    duplicate_seconds: float | None = None
    min_truth_seconds: float = 0.0
    min_prediction_seconds: float = 0.0
    strip_truth_ids: int = 0


_LAST_LISTED = MatchRules(ties="last_listed", tiou_tolerance=0.0)

MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode(
            name="tsm",
            summary=(
                "the default: ActivityNet's protocol, but nothing depends on the order of the files; videos "
                "and labels without truth, and what is no segment, are left out and counted"
            ),
            thresholds=",".join(f"{value:g}" for value in DEFAULT_TIOU_THRESHOLDS),
            rules=MatchRules(),
            takes_any_bounds=False,
            unknown_videos="ignore",
            empty_truth="drop",
        ),
        Mode(
            name="activitynet",
            summary=(
                "the official figures: predictions in videos without truth are false, zero-length instances "
                "are missed, of equal scores the last listed comes first; an unknown label is an error"
            ),
            thresholds=_TENTHS,
            rules=_LAST_LISTED,
            unknown_labels="refuse",
        ),
        Mode(
            name="actionformer",
            summary=(
                "as activitynet, but instances equal to 1 ms or shorter than 1 ms are dropped, and the id of "
                "a class without truth is taken for another class (its known bug; needs ids in the truth)"
            ),
            thresholds="0.1:0.1:0.5",
            rules=_LAST_LISTED,
            unknown_labels="collide",
            empty_truth="drop",
            duplicate_seconds=1e-3,
            min_truth_seconds=1e-3,
        ),
        Mode(
            name="opentad",
            summary=(
                "as activitynet, but instances equal to 1 ms or of length zero are dropped, and labels "
                "without truth are ignored"
            ),
            thresholds=_TENTHS,
            rules=_LAST_LISTED,
            empty_truth="drop",
            duplicate_seconds=1e-3,
        ),
        Mode(
            name="mmaction2",
            summary=(
                "as activitynet, but of equal scores the first listed comes first, tIoUs are of 32 bits, and "
                "the truth's video ids lose their first two characters (v_)"
            ),
            thresholds=_TENTHS,
            rules=MatchRules(ties="first_listed", tiou_tolerance=0.0, single_precision=True),
            unknown_labels="refuse",
            strip_truth_ids=2,
        ),
        Mode(
            name="360x-kit",
            summary=(
                "the 360+x kit, for comparison with its table only: no average precision, for an instance "
                "may be found many times (values above 1); bounds in 10 s cuts, rounded and snapped"
            ),
            thresholds=_TENTHS,
            rules=MatchRules(ties="last_listed", tiou_tolerance=0.0, one_to_one=False, cut=CutGrid()),
            unknown_labels="collide",
            min_prediction_seconds=0.2,
        ),
    )
}
"""Every mode by its name; the first is the default."""


def describe_modes() -> str:
    """Return name, summary and thresholds of each mode, wrapped for `--help`."""
    texts = (f"{mode.name}: {mode.summary} (tIoU {mode.thresholds})" for mode in MODES.values())
    return "\n".join(textwrap.fill(text, 76, subsequent_indent="  ") for text in texts)
