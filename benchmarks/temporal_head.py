"""What a temporal head gives: mAP on annotated videos and processor time, beside the same bundle without it.

Rows: the merge of clips (as without a head); the scores of single frames with Viterbi, nothing trained; the
head with the plain merge; the head with the decoding that its bundle holds. The difference from the first row
has a 95 % interval over resampled videos. `removed` is what average mAP gains when one kind of error is
removed (bounds, labels, doubles).

`seconds` is the processor time of whole runs without and with the head, decoding of the videos included: the
median of --times runs over the first four videos, taken in turns. `head_share` is the head's own time on the
features of these videos, as a share of the backbone's.

    python benchmarks/temporal_head.py BUNDLE ANNOTATIONS VIDEOS --subset test
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _common import store

from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.evaluation.bootstrap import bootstrap_difference
from tsm_runtime.evaluation.diagnosis import diagnose
from tsm_runtime.evaluation.matching import Matching, match_segments
from tsm_runtime.evaluation.protocol import score_matching
from tsm_runtime.formats.ground_truth import read_ground_truth
from tsm_runtime.models.member import Member
from tsm_runtime.models.opening import open_member
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import Segment
from tsm_runtime.segments.decoding.settings import Decoding
from tsm_train.data.video_files import find_video

TIOU_THRESHOLDS = (0.5, 0.75, 0.95)

_TIMED_VIDEOS = 4


def main() -> None:
    """Run every row, print the table, store it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--subset", default="test")
    parser.add_argument("--name", default="temporal_head", help="results/NAME.json")
    parser.add_argument("--brief", action="store_true", help="only the first and the last row")
    parser.add_argument("--times", type=int, default=5, help="timed runs of either kind")
    options = parser.parse_args()

    bundle = load_bundle(options.bundle)
    found = read_ground_truth(options.annotations).subset(options.subset).videos
    truth = {video.video_id: list(video.segments) for video in found}
    videos = {video_id: find_video(options.videos, video_id) for video_id in truth}
    rows: list[dict[str, Any]] = []
    plain: Matching | None = None
    for name, member in members_of(open_member(bundle), brief=options.brief):
        row, matching = measured(name, member, videos, truth, plain)
        plain = plain or matching
        rows.append(row)
        print(row, flush=True)
    head = bundle.manifest.temporal_head
    timed = measured_times(open_member(bundle), list(videos.values())[:_TIMED_VIDEOS], options.times)
    print(timed, flush=True)
    store(
        options.name,
        {
            "bundle": bundle.manifest_sha256,
            "annotations": options.annotations.name,
            "subset": options.subset,
            "videos": len(truth),
            "instances": sum(map(len, truth.values())),
            "head": {} if head is None else dict(head.metrics),
            "rows": rows,
            **timed,
        },
    )


def members_of(member: Member, *, brief: bool) -> Iterator[tuple[str, Member]]:
    """Yield the member without the head, with parts of what the bundle holds, and as the bundle says."""
    yield "merge of clips", replace(member, head=None, decoding=None)
    chosen = member.decoding or Decoding()
    if not brief:
        costs = Decoding(method="viterbi", switch_cost=8.0, score="mean")
        yield "frames, viterbi (cost 8)", replace(member, head=None, decoding=costs)
        yield "head, merge", replace(member, decoding=Decoding())
    yield f"head, {chosen.method} as chosen", member


def measured(
    name: str,
    member: Member,
    videos: Mapping[str, Path],
    truth: Mapping[str, Sequence[Segment]],
    plain: Matching | None,
) -> tuple[dict[str, Any], Matching]:
    """Run all videos and return the row and its matching."""
    predictions = {video_id: list(run(path, member).segments) for video_id, path in videos.items()}
    matching = match_segments(truth, predictions, TIOU_THRESHOLDS)
    evaluation = score_matching(matching, predictions)
    values = {"map": evaluation.average_map}
    values |= {
        f"map_{threshold:g}": float(value)
        for threshold, value in zip(TIOU_THRESHOLDS, evaluation.map_per_tiou, strict=True)
    }
    row: dict[str, Any] = {"name": name, **{key: round(100 * value, 1) for key, value in values.items()}}
    row["removed"] = {gain.kind: round(100 * gain.average_map, 1) for gain in diagnose(matching).gains}
    if plain is not None:
        drawn = bootstrap_difference(matching, plain, replicates=2000).average
        row["difference"] = [round(100 * value, 1) for value in (drawn.low, drawn.high)]
    return row, matching


def measured_times(member: Member, videos: Sequence[Path], times: int) -> dict[str, Any]:
    """Return seconds of whole runs without and with the head, and the head's share of the backbone's time."""
    if member.head is None:
        return {}
    kinds = {"without": replace(member, head=None, decoding=None), "with": member}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(times):
        for kind, each in kinds.items():
            start = time.process_time()
            for path in videos:
                run(path, each)
            seconds[kind].append(time.process_time() - start)
    median = {kind: round(statistics.median(values), 3) for kind, values in seconds.items()}
    return {"seconds": median, "head_share": round(head_share(member, times), 4)}


def head_share(member: Member, times: int) -> float:
    """Return the time of the head on 30 s of features, over that of the backbone on as many frames."""
    assert member.head is not None
    spec = member.spec
    count = round(30.0 / spec.interval_seconds)
    frames = np.zeros((1, spec.num_frames, spec.size, spec.size, 3), np.uint8)
    features = member.backend.infer(frames).features
    assert features is not None
    rows = np.repeat(features.reshape(-1, features.shape[2]), count, axis=0)
    head, backbone = [], []
    for _ in range(times):
        start = time.process_time()
        member.head.infer(rows)
        middle = time.process_time()
        for _ in range(count):
            member.backend.infer(frames)
        head.append(middle - start)
        backbone.append(time.process_time() - middle)
    return statistics.median(head) / statistics.median(backbone)


if __name__ == "__main__":
    main()
