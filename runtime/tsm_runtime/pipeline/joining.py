"""The result of a joint model of views for a capture, from the features of all videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tsm_runtime.captures.selection import CapturePlan
from tsm_runtime.captures.timeline import join_results
from tsm_runtime.models.member import Member
from tsm_runtime.models.view_join import ViewJoin
from tsm_runtime.pipeline.result import VideoOutcome, mean_scenes
from tsm_runtime.results import IntervalScores, Result
from tsm_runtime.segments.find import find_segments

_Rows = dict[tuple[int, int], npt.NDArray[np.float32]]
"""Features by interval of the time line and number of the view."""


def joint_result(
    plan: CapturePlan,
    looks: Sequence[tuple[int, Member]],
    found: Sequence[VideoOutcome],
    min_score: float = 0.0,
) -> Result | None:
    """Return what a joint model finds in a capture, or in the windows of a panorama; None: no whole interval.

    The intervals of a video that begins within an interval of the time line move to the nearest one.

    Args:
        plan: the capture or video.
        looks: number and member of each view or window; they share `joint`, spec and rules.
        found: outcome of each video of the plan, with features.
        min_score: segments with a lower score are dropped.
    """
    member = looks[0][1]
    assert member.joint is not None
    parts = [
        (place, result, begin)
        for place, (number, _) in enumerate(looks)
        for (_, begin), video in zip(plan.begins, found, strict=True)
        if (result := video.results.get(number)) is not None
    ]
    rows: _Rows = {}
    for place, result, begin in parts:
        rows |= _rows(result, place, round(begin / member.spec.interval_seconds))
    if not rows:
        return None
    intervals = _scored(rows, len(looks), member.joint)
    segments, cells = find_segments(intervals, member.action_labels, member.spec, member.rules)
    first = min(place for place, _, _ in parts)
    base = join_results(plan.capture_id, [(r, begin) for place, r, begin in parts if place == first])
    return replace(
        base,
        segments=tuple(segment for segment in segments if segment.score >= min_score),
        scenes=mean_scenes(intervals, member.scene_labels),
        num_intervals=len(intervals.indices),
        duration_seconds=max(begin + result.duration_seconds for _, result, begin in parts),
        complete=all(result.complete for _, result, _ in parts),
        scores=cells,
        features=None,
    )


def _rows(result: Result, place: int, shift: int) -> _Rows:
    """Return the features of a video by interval of the time line."""
    if result.features is None:
        raise ValueError("a joint model of views needs the features of its intervals")
    values = result.features.values
    per_interval = max(1, len(values) // result.num_intervals)
    means = values.reshape(-1, per_interval, values.shape[1]).mean(axis=1)
    numbers = result.features.indices[::per_interval] // per_interval + shift
    return {(int(k), place): row for k, row in zip(numbers, means, strict=True) if k >= 0}


def _scored(rows: _Rows, num_views: int, joint: ViewJoin) -> IntervalScores:
    numbers = np.array(sorted({k for k, _ in rows}), np.int64)
    place_of = {int(k): row for row, k in enumerate(numbers)}
    features = np.zeros((len(numbers), num_views, len(next(iter(rows.values())))), np.float32)
    present = np.zeros(features.shape[:2], np.float32)
    for (k, view), row in rows.items():
        features[place_of[k], view], present[place_of[k], view] = row, 1.0
    scores = joint.infer(features, present)
    return IntervalScores(indices=numbers, action=scores.action, scene=scores.scene)
