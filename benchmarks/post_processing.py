"""What follows the scores, tried on annotated videos: window, stride, smoothing and shortest duration.

Each video is decoded and scored once for all windows and strides (the scores are kept in --store), then every
setting of the grid is judged at tIoU 0.5, 0.75 and 0.95. The table holds the plain merge of the paper, the
best of each option alone, and the best of the grid, with the 95 % interval of the difference from plain
over resampled videos. The best of many settings on a few videos is in part luck: `chosen without` gives each
video the setting that the other videos choose, which is what a choice is worth on a new video.

    python benchmarks/post_processing.py BUNDLE ANNOTATIONS VIDEOS --subset validation
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _common import store

from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.evaluation.bootstrap import bootstrap_difference
from tsm_runtime.evaluation.matching import Matching
from tsm_runtime.evaluation.protocol import score_matching
from tsm_runtime.formats.ground_truth import read_ground_truth
from tsm_runtime.models.opening import open_member
from tsm_train.ablation.settings_grid import Judged, Setting, choose, choose_without, judge, settings_of
from tsm_train.ablation.stored_scores import score_videos
from tsm_train.data.video_files import find_video

SMOOTHING = (0.0, 0.6, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
MIN_DURATION = (0.0, 0.6, 1.0, 1.5)
STRIDES = (1, 2, 4)
WINDOWS = (1.0, 1.5, 2.0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--subset", default="validation")
    parser.add_argument("--store", type=Path, default=Path("scores"), help="folder of the scores")
    parser.add_argument("--smoothing", type=float, nargs="+", default=SMOOTHING, help="seconds")
    parser.add_argument("--min-duration", type=float, nargs="+", default=MIN_DURATION, help="seconds")
    parser.add_argument("--strides", type=int, nargs="+", default=STRIDES, help="parts of the interval")
    parser.add_argument("--windows", type=float, nargs="+", default=WINDOWS, help="times the interval")
    parser.add_argument("--name", default="post_processing", help="results/NAME.json")
    return parser.parse_args()


def main() -> None:
    """Score, judge, choose, print and store."""
    options = _options()

    bundle = load_bundle(options.bundle)
    member = open_member(bundle)
    found = read_ground_truth(options.annotations).subset(options.subset).videos
    truth = {video.video_id: list(video.segments) for video in found}
    videos = {video_id: find_video(options.videos, video_id) for video_id in truth}
    base = replace(member.spec, window_seconds=0.0, stride_seconds=0.0)
    specs = [
        replace(base, window_seconds=w * base.interval_seconds, stride_seconds=base.interval_seconds / parts)
        for w in options.windows
        for parts in options.strides
    ]
    folder = options.store / bundle.manifest_sha256[:16]
    scores = score_videos(
        member, videos, specs, store=folder, progress=lambda name: print("scoring", name, flush=True)
    )
    thresholds = member.rules.thresholds
    grid = settings_of(specs, options.smoothing, options.min_duration, thresholds)
    judged = [judge(setting, scores, member.action_labels, truth) for setting in grid]
    rows = table(judged, truth, base)
    print(as_markdown(rows))
    store(
        options.name,
        {
            "bundle": bundle.manifest_sha256,
            "annotations": options.annotations.name,
            "subset": options.subset,
            "videos": len(truth),
            "instances": sum(map(len, truth.values())),
            "table": [row.described() for row in rows],
            "grid": {
                "columns": [*described(grid[0]), *percents(judged[0].matching)],
                "rows": [as_line(one) for one in judged],
            },
        },
    )


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    setting: dict[str, float]
    matching: Matching
    plain: Matching

    def described(self) -> dict[str, Any]:
        """Return the line for JSON: mAP and the interval of its difference from plain, in percent."""
        line: dict[str, Any] = {"name": self.name, **self.setting, **percents(self.matching)}
        if self.matching is not self.plain:
            drawn = bootstrap_difference(self.matching, self.plain, replicates=2000)
            line["difference"] = [round(100 * x, 1) for x in (drawn.average.low, drawn.average.high)]
        return line


def table(judged: Sequence[Judged], truth: dict[str, Any], base: ClipSpec) -> list[Row]:
    """Return the plain merge, the best of each option alone, the best of all, and the choice without."""

    def best(test: Callable[[tuple[bool, ...]], bool]) -> Judged:
        return choose([one for one in judged if test(used(one.setting, base))])

    plain = best(lambda on: not any(on)).matching
    rows = [Row("plain", {}, plain, plain)]
    for place, name in enumerate(("smoothing", "shortest duration", "stride", "window")):
        one = best(lambda on, place=place: on[place] and sum(on) == 1)  # type: ignore[misc]
        rows.append(Row(f"{name} alone", described(one.setting), one.matching, plain))
    one = choose(judged)
    rows.append(Row("best of the grid", described(one.setting), one.matching, plain))
    if len(truth) > 1:
        _, matching = choose_without(judged, truth)
        rows.append(Row("chosen without the video", {}, matching, plain))
    return rows


def used(setting: Setting, base: ClipSpec) -> tuple[bool, ...]:
    """Return which options a setting has on: smoothing, shortest duration, stride, window."""
    spec, rules = setting.spec, setting.rules
    return (
        rules.smoothing_seconds > 0,
        rules.min_duration_seconds > 0,
        spec.stride_seconds < base.stride_seconds,
        spec.window_seconds > base.window_seconds,
    )


def described(setting: Setting) -> dict[str, float]:
    """Return the seconds of a setting."""
    return {
        "window": round(setting.spec.window_seconds, 6),
        "stride": round(setting.spec.stride_seconds, 6),
        "smoothing": setting.rules.smoothing_seconds,
        "min_duration": setting.rules.min_duration_seconds,
    }


def percents(matching: Matching) -> dict[str, float]:
    """Return mAP at each threshold and their mean."""
    found = score_matching(matching, {})
    line = {f"map_{t:g}": 100 * v for t, v in zip(found.tiou_thresholds, found.map_per_tiou, strict=True)}
    return {name: round(value, 1) for name, value in {**line, "map": 100 * found.average_map}.items()}


def as_line(judged: Judged) -> str:
    """Return the numbers of a setting as one line of the stored grid."""
    numbers = (*described(judged.setting).values(), *percents(judged.matching).values())
    return " ".join(f"{number:g}" for number in numbers)


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the table as Markdown."""
    lines = ["| | window | stride | smoothing | shortest | 0.5 | 0.75 | 0.95 | mean | difference |"]
    lines.append("|---" * 10 + "|")
    for row in rows:
        line = row.described()
        seconds = [f"{line[key]:g}" if key in line else "" for key in described_keys()]
        numbers = [f"{line[key]:.1f}" for key in ("map_0.5", "map_0.75", "map_0.95", "map")]
        span = "{:+.1f} to {:+.1f}".format(*line["difference"]) if "difference" in line else ""
        lines.append("| " + " | ".join([row.name, *seconds, *numbers, span]) + " |")
    return "\n".join(lines)


def described_keys() -> tuple[str, ...]:
    """Return the columns of a setting."""
    return ("window", "stride", "smoothing", "min_duration")


if __name__ == "__main__":
    main()
