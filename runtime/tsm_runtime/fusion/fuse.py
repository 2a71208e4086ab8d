"""Fusion of members: the segments and scenes that several models found in one video become one list.

The paper's ensemble (section 3.3): a candidate is a distinct (class, start, end), its confidence the weighted
mean sum(w_i c_i) / sum(w_i) over the members; then segments of one class whose temporal IoU exceeds a
threshold become their union with the maximum confidence. Four named alternatives replace the second step or
both, see `Method`.

The result does not depend on the order of members (with their weights) or of segments:

- Bounds are whole microseconds and scores have six decimals, as files hold them. Equal keys are equal
  integers, and a temporal IoU, a quotient of integers, compares exactly with the threshold. So fusing in
  memory and fusing the members' files is the same.
- Sums run over sorted terms: floats added in another order may give another last digit.
- Merging works on the set of spans in the order of (start, end), never on scores; every other method visits
  by falling score and breaks ties by (start, end). Classes do not touch each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from tsm_runtime.fusion.calibration import calibrated_result
from tsm_runtime.fusion.candidates import (
    MICROSECONDS,
    Candidates,
    Fused,
    chain_overlapping,
    gather_candidates,
    merge_clusters,
    unite,
    weighted_confidence,
)
from tsm_runtime.fusion.options import FusionOptions, checked_weights
from tsm_runtime.fusion.suppression import (
    decay_gaussian,
    decay_linear,
    soft_suppress,
    suppress,
    weighted_boxes,
)
from tsm_runtime.results import Result, SceneScore, Segment, all_complete, ranked_scenes

_Floats = npt.NDArray[np.float64]


# --- one video ------------------------------------------------------------------------------------


def fuse_segments(
    members: Sequence[Sequence[Segment] | None],
    weights: Sequence[float] | None = None,
    options: FusionOptions | None = None,
) -> list[Segment]:
    """Fuse what members found in one video.

    A segment that a member lists twice (same class, start and end) counts once, with its highest score.
    Segments shorter than half a microsecond are dropped, as in files.

    Args:
        members: segments of each member, in any order; None: the member has not seen the video and is left
            out of the denominator; an empty sequence: the member found nothing.
        weights: one for each member, above 0; None: equal weights.
        options: fusion options; None: the paper's ensemble.

    Returns:
        Fused segments in order of (start, end, label).

    Raises:
        UsageError: the weights do not fit.
    """
    options = options or FusionOptions()
    checked = checked_weights(weights, len(members))
    labels, candidates = gather_candidates([{} if found is None else {"": found} for found in members])
    fused = fuse_candidates(candidates, np.array(checked), options)
    segments = [
        Segment(
            label=labels[group][1],
            start_seconds=start / MICROSECONDS,
            end_seconds=end / MICROSECONDS,
            score=score,
        )
        for group, start, end, score in zip(
            fused.group.tolist(), fused.start.tolist(), fused.end.tolist(), fused.score.tolist(), strict=True
        )
    ]
    return sorted(segments, key=lambda s: (s.start_seconds, s.end_seconds, s.label, -s.score))


def fuse_scenes(
    members: Sequence[Iterable[SceneScore] | None], weights: Sequence[float] | None = None
) -> tuple[SceneScore, ...]:
    """Return the weighted mean of scene scores over the members that have scenes, best first.

    A scene that such a member does not list has score 0 there, since scene scores form one distribution.

    Raises:
        UsageError: the weights do not fit.
    """
    checked = checked_weights(weights, len(members))
    tables = [_scene_table(scenes or ()) for scenes in members]
    voted = [(table, weight) for table, weight in zip(tables, checked, strict=True) if table]
    total = math.fsum(weight for _, weight in voted)
    fused = {
        label: math.fsum(weight * table.get(label, 0.0) for table, weight in voted) / total
        for label in sorted(set().union(*(table for table, _ in voted)))
    }
    return tuple(ranked_scenes(SceneScore(label=label, score=score) for label, score in fused.items()))


def _scene_table(scenes: Iterable[SceneScore]) -> dict[str, float]:
    table: dict[str, float] = {}
    for scene in scenes:
        table[scene.label] = max(round(scene.score, 6), table.get(scene.label, -math.inf))
    return table


def fuse_results(
    results: Sequence[Result | None],
    weights: Sequence[float] | None = None,
    options: FusionOptions | None = None,
) -> Result:
    """Fuse the results of members for one video.

    Data about the video combine the most cautious values of the members: complete only if all are, the gaps
    of all members, the largest number of corrupt frames; interval length and number are those of the finest
    grid.

    Args:
        results: one for each member; None for a member without a result.
        weights: as `fuse_segments` takes them.
        options: as `fuse_segments` takes them.

    Raises:
        ValueError: there is no result, or they are of different videos.
        UsageError: the weights do not fit.
    """
    there = [result for result in results if result is not None]
    ids = {result.video_id for result in there}
    if len(ids) != 1:
        raise ValueError(f"expected results of one video, got {sorted(ids)}")
    return Result(
        video_id=there[0].video_id,
        segments=tuple(fuse_segments([r.segments if r else None for r in results], weights, options)),
        scenes=fuse_scenes([r.scenes if r else None for r in results], weights),
        interval_seconds=min(result.interval_seconds for result in there),
        num_intervals=max(result.num_intervals for result in there),
        duration_seconds=max(result.duration_seconds for result in there),
        complete=all_complete(there),
        gaps=union_gaps(result.gaps for result in there),
        corrupt_frames=max(result.corrupt_frames for result in there),
        warnings=tuple(dict.fromkeys(line for result in there for line in result.warnings)),
        discontinuities=tuple(sorted({at for result in there for at in result.discontinuities})),
    )


def fuse_members(
    results: Sequence[Result | None],
    weights: Sequence[float] | None = None,
    temperatures: Sequence[float] | None = None,
    options: FusionOptions | None = None,
) -> Result:
    """Calibrate and fuse the results of members for one video; the fused result holds them as `members`.

    Args:
        results: one for each member; None for a member that has none.
        weights: as `fuse_segments` takes them.
        temperatures: one for each member, see `fusion.calibration`; None: 1.
        options: as `fuse_segments` takes them.

    Raises:
        ValueError: as `fuse_results`.
        UsageError: the weights do not fit, or a score to be calibrated is no probability.
    """
    calibrated = [
        result and calibrated_result(result, temperature)
        for result, temperature in zip(results, temperatures or [1.0] * len(results), strict=True)
    ]
    return replace(fuse_results(calibrated, weights, options), members=tuple(results))


def union_gaps(gaps: Iterable[Iterable[tuple[float, float]]]) -> tuple[tuple[float, float], ...]:
    """Return the union of several lists of [start, end) in order of time.

    >>> union_gaps([[(5.0, 7.0)], [(1.0, 2.0), (6.0, 8.0)]])
    ((1.0, 2.0), (5.0, 8.0))
    """
    union: list[tuple[float, float]] = []
    for start, end in sorted((start, end) for spans in gaps for start, end in spans):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((start, end))
    return tuple(union)


def fuse_candidates(candidates: Candidates, weights: _Floats, options: FusionOptions) -> Fused:
    """Fuse a table of candidates of M members, group by group, with (M,) weights above 0."""
    score = weighted_confidence(candidates, weights, options.denominator)
    if options.method != "wbf":
        strong = score >= options.min_score
        candidates, score = candidates.take(strong), score[strong]
    if options.method == "paper":
        return unite(candidates, score, merge_clusters(candidates, options.iou))
    first, size = chain_overlapping(candidates)
    alone = first[size == 1]
    parts = [(candidates.group[alone], candidates.start[alone], candidates.end[alone], score[alone])]
    for begin, count in zip(first[size > 1].tolist(), size[size > 1].tolist(), strict=True):
        rows = slice(begin, begin + count)
        columns = _without_overlap(candidates.take(rows), score[rows], weights, options)
        parts.append((np.full(len(columns[0]), candidates.group[begin]), *columns))
    group, start, end, score = (np.concatenate(column) for column in zip(*parts, strict=True))
    strong = score >= options.min_score
    return Fused(group[strong], start[strong], end[strong], score[strong])


def _without_overlap(
    candidates: Candidates, score: _Floats, weights: _Floats, options: FusionOptions
) -> tuple[_Floats, _Floats, _Floats]:
    """Return start, end and score of one group's rows, fused by a method other than the paper's."""
    start, end = candidates.start, candidates.end
    match options.method:
        case "nms":
            kept = suppress(start, end, score, options.iou)
            return start[kept], end[kept], score[kept]
        case "soft-nms-linear":
            factors = partial(decay_linear, iou=options.iou)
            return start, end, soft_suppress(start, end, score, factors, options.min_score)
        case "soft-nms-gaussian":
            factors = partial(decay_gaussian, sigma=options.sigma)
            return start, end, soft_suppress(start, end, score, factors, options.min_score)
    return weighted_boxes(
        start,
        end,
        candidates.confidence,
        candidates.has_video[0],
        weights,
        options.iou,
        options.denominator,
    )
