"""A sitting with tsm-review, from an empty folder of videos to a first useful model; the person is simulated.

Starts tsm-review on a folder of videos without annotations and works as its page does. Round by round some
training videos are annotated and marked as done, every fourth for validation; the quick training runs, and
its model makes new drafts. From the second round on, drafts are corrected. The bounds that the person sets
are off by a normal error of --error seconds. The models are judged on the validation videos of the set,
which are never annotated.

A person's minutes are estimated, not measured: the videos are watched once (their duration), a new instance
takes --mark seconds, a change or deletion of a draft --correct seconds. A draft with the right label and a
temporal IoU of 0.75 is left as it is. Processor and wall seconds of training and export are measured.

    python benchmarks/review_sitting.py --data ../shared/data/ut_interaction --rounds 4 8 12
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from _common import store

from tsm_runtime.evaluation.protocol import evaluate, tiou
from tsm_runtime.formats.annotations import read_annotations
from tsm_runtime.formats.ground_truth import VideoAnnotation
from tsm_runtime.formats.read_write import read_segments
from tsm_runtime.results import Segment

GOOD_TIOU = 0.75
FOUND_TIOU = 0.1
EVERY_NTH_VALIDATES = 4
MIN_SCORE = 0.3


class Page:
    """A running tsm-review, called as its page does."""

    def __init__(self, folder: Path, config: Path | None = None) -> None:
        more = ["--train", str(config)] if config else []
        self._process = subprocess.Popen(
            [*program("tsm_serve.commands.review"), str(folder), "--no-browser", "--port", "0", *more],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._base, _, self._token = self._process.stdout.readline().strip().partition("/?token=")

    def call(self, path: str, body: object = None, method: str = "GET", **query: str) -> Any:
        """Return the JSON answer."""
        address = f"{self._base}{path}?{urllib.parse.urlencode({'token': self._token, **query})}"
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(address, data, method=method)) as answer:
            return json.load(answer)

    def trained(self) -> tuple[dict[str, float], dict[str, int]]:
        """Train quickly and export; return the scores on the page in percent, and the seconds used."""
        start, before = time.perf_counter(), cpu_seconds(self._process.pid)
        self.call("/api/training", {"kind": "quick"}, "POST")
        while (state := self.call("/api/training"))["stage"] in ("training", "exporting"):
            time.sleep(1)
        if state["stage"] != "done":
            raise SystemExit("\n".join([state["error"], *state["log"][-20:]]))
        used = {
            "wall_seconds": round(time.perf_counter() - start),
            "cpu_seconds": round(cpu_seconds(self._process.pid) - before),
        }
        return {name: round(100 * value, 1) for name, value in state["metrics"].items()}, used

    def close(self) -> None:
        """End the server as with Ctrl-C."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)


def cpu_seconds(process: int) -> float:
    """Return the processor seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    ticks = sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def program(module: str) -> list[str]:
    """Return how a command is started."""
    return [sys.executable, "-c", f"from {module} import main; main()"]


@dataclass(frozen=True, slots=True)
class Edits:
    """What a person does to the drafts of some videos."""

    kept: int = 0
    changed: int = 0
    deleted: int = 0
    added: int = 0

    def __add__(self, other: Edits) -> Edits:
        return Edits(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))


@dataclass(frozen=True, slots=True)
class Person:
    """Annotates as the truth says, with bounds that are off by a normal error.

    Args:
        error_seconds: standard deviation of a bound.
        mark_seconds: time that a new instance takes.
        correct_seconds: time that a change or deletion of a draft takes.
    """

    error_seconds: float
    mark_seconds: float
    correct_seconds: float

    def annotated(self, video: VideoAnnotation) -> VideoAnnotation:
        """Return the annotations that the person saves."""
        rng = random.Random(video.video_id)
        end = video.duration_seconds or max(segment.end_seconds for segment in video.segments)

        def moved(segment: Segment) -> Segment:
            bounds = sorted(
                min(max(0.0, bound + rng.gauss(0, self.error_seconds)), end)
                for bound in (segment.start_seconds, segment.end_seconds)
            )
            return replace(segment, start_seconds=bounds[0], end_seconds=bounds[1])

        return replace(video, segments=tuple(moved(segment) for segment in video.segments))

    def minutes(self, videos: Sequence[VideoAnnotation], edits: Edits) -> float:
        """Return the estimated minutes for watching `videos` and making `edits`."""
        watched = sum(video.duration_seconds or 0.0 for video in videos)
        work = edits.added * self.mark_seconds + (edits.changed + edits.deleted) * self.correct_seconds
        return (watched + work) / 60


def main() -> None:
    """Annotate, train, correct, train again; print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with ground_truth.json and videos/")
    parser.add_argument(
        "--rounds", type=int, nargs="+", default=[4, 8], help="annotated videos after each round"
    )
    parser.add_argument("--error", type=float, default=0.08, help="seconds, of a bound")
    parser.add_argument("--mark", type=float, default=6.0, help="seconds for a new instance")
    parser.add_argument("--correct", type=float, default=4.0, help="seconds for a change of a draft")
    parser.add_argument("--train", type=Path, help="configuration for tsm-review --train")
    parser.add_argument("--name", default="review_sitting", help="results/NAME.json")
    options = parser.parse_args()
    truth = read_annotations(options.data / "ground_truth.json")
    training = truth.subset("training").videos
    # Every other one, so that each place of the set is among the first.
    order = [*training[::2], *training[1::2]]
    person = Person(options.error, options.mark, options.correct)
    with tempfile.TemporaryDirectory() as folder:
        videos = Path(folder) / "videos"
        videos.mkdir()
        for video in truth.videos:
            name = f"{video.video_id}.mp4"
            (videos / name).symlink_to((options.data / "videos" / name).resolve())
        rounds = sitting(videos, order, truth.subset("validation").videos, options, person)
    store(
        options.name,
        {
            "data": options.data.name,
            "error_seconds": options.error,
            "judged": {
                "videos": len(truth.subset("validation").videos),
                "instances": sum(len(video.segments) for video in truth.subset("validation").videos),
            },
            "rounds": rounds,
        },
    )


def sitting(
    videos: Path,
    order: Sequence[VideoAnnotation],
    judged: Sequence[VideoAnnotation],
    options: argparse.Namespace,
    person: Person,
) -> list[dict[str, Any]]:
    """Return a row for each round."""
    rows: list[dict[str, Any]] = []
    drafts: dict[str, Any] = {}
    minutes, done = 0.0, 0
    page = Page(videos, options.train)
    try:
        for number in options.rounds:
            new = order[done:number]
            edits = sum((edits_of(drafts.get(video.video_id, ()), video.segments) for video in new), Edits())
            minutes += person.minutes(new, edits)
            for position, video in enumerate(new, done):
                subset = "training" if (position + 1) % EVERY_NTH_VALIDATES else "validation"
                edit = edit_of(person.annotated(video), subset)
                page.call("/api/video", {"edit": edit, "base": ""}, "PUT", id=video.video_id)
            done = number
            metrics, used = page.trained()
            bundle = max((videos / ".tsm-review" / "train" / "bundles").iterdir())
            drafts = found_by(bundle, videos, [*order[done:], *judged])
            rows.append(
                {
                    "annotated_videos": done,
                    "instances": sum(len(video.segments) for video in order[:done]),
                    "estimated_minutes": round(minutes, 1),
                    "edits": asdict(edits),
                    **used,
                    "page": metrics,
                    "new_videos": scores(judged, drafts),
                }
            )
            print(rows[-1], flush=True)
    finally:
        page.close()
    return rows


def edits_of(drafts: Sequence[Segment], truth: Sequence[Segment]) -> Edits:
    """Count the edits of `drafts`: the best one of each instance is kept or changed, others are deleted."""
    left = [draft for draft in drafts if draft.score >= MIN_SCORE]
    kept = changed = added = 0
    for segment in truth:
        best = max(left, key=lambda draft: (tiou(draft, segment), draft.label == segment.label), default=None)
        if best is None or tiou(best, segment) < FOUND_TIOU:
            added += 1
            continue
        left.remove(best)
        is_right = best.label == segment.label and tiou(best, segment) >= GOOD_TIOU
        kept, changed = kept + is_right, changed + (not is_right)
    return Edits(kept, changed, len(left), added)


def scores(judged: Sequence[VideoAnnotation], found: dict[str, Any]) -> dict[str, float]:
    """Return mAP in percent, by threshold and in the mean."""
    result = evaluate(
        {video.video_id: video.segments for video in judged},
        {video.video_id: found.get(video.video_id, ()) for video in judged},
        (0.5, 0.75, 0.95),
    )
    by_threshold = zip(result.tiou_thresholds, result.map_per_tiou, strict=True)
    named = {f"map_{threshold:g}": value for threshold, value in by_threshold}
    return {name: round(100 * value, 1) for name, value in {**named, "map": result.average_map}.items()}


def edit_of(video: VideoAnnotation, subset: str) -> dict[str, Any]:
    """Return what the page saves when a person has marked everything and presses Enter."""
    annotations = [
        {"label": segment.label, "segment": [segment.start_seconds, segment.end_seconds]}
        for segment in video.segments
    ]
    return {
        "annotations": annotations,
        "state": "done",
        "subset": subset,
        "scene": video.scene or "",
        "comment": "",
    }


def found_by(bundle: Path, videos: Path, wanted: Sequence[VideoAnnotation]) -> dict[str, Any]:
    """Return the segments of `tsm-run`."""
    output = videos.parent / f"{bundle.name}.json"
    paths = [str(videos / f"{video.video_id}.mp4") for video in wanted]
    command = [*program("tsm_runtime.commands.run"), *paths, "--model", str(bundle), "-o", str(output)]
    subprocess.run(command, check=True)
    return dict(read_segments(output))


if __name__ == "__main__":
    main()
