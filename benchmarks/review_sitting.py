"""A first model from the page of tsm-review: what a quick training takes, and what its drafts are worth.

Starts tsm-review on a folder of videos without annotations, saves the true annotations of some of them
through its API as a person would on the page, starts the quick training, waits for the bundle, and runs it on
training videos that were not annotated. Processor seconds are those of training, export and page.

    python benchmarks/review_sitting.py --data ../shared/data/ut_interaction --labelled 8
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _common import store

from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.formats.annotations import read_annotations
from tsm_runtime.formats.ground_truth import VideoAnnotation
from tsm_runtime.formats.read_write import read_segments


class Page:
    """A running tsm-review, called as its page does."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [*program("tsm_serve.commands.review"), str(folder), "--no-browser", "--port", "0"],
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

    def close(self) -> None:
        """End the server as with Ctrl-C."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)


def program(module: str) -> list[str]:
    """Return how a command is started."""
    return [sys.executable, "-c", f"from {module} import main; main()"]


def main() -> None:
    """Annotate, train, look; print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with ground_truth.json and videos/")
    parser.add_argument("--labelled", type=int, default=8, help="training videos that are annotated")
    parser.add_argument("--name", default="review_sitting", help="results/NAME.json")
    options = parser.parse_args()
    truth = read_annotations(options.data / "ground_truth.json")
    training = truth.subset("training").videos
    # Every other one, so that each place of the set is among both.
    order = [*training[::2], *training[1::2]]
    labelled, others = order[: options.labelled], order[options.labelled :]
    done = [*labelled, *truth.subset("validation").videos]
    with tempfile.TemporaryDirectory() as folder:
        videos = Path(folder) / "videos"
        videos.mkdir()
        for video in truth.videos:
            name = f"{video.video_id}.mp4"
            (videos / name).symlink_to((options.data / "videos" / name).resolve())
        state, seconds = sitting(videos, done)
        found = drafts(videos, others)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    scores = evaluate({video.video_id: video.segments for video in others}, found, (0.5,))
    store(
        options.name,
        {
            "data": options.data.name,
            "labelled": {"training": len(labelled), "validation": len(done) - len(labelled)},
            "labelled_instances": sum(len(video.segments) for video in done),
            "wall_seconds": round(seconds),
            "cpu_seconds": round(used.ru_utime + used.ru_stime),
            "page": {name: round(100 * value, 1) for name, value in state["metrics"].items()},
            "new_videos": {"videos": len(others), "map50": round(100 * scores.average_map, 1)},
        },
    )


def sitting(videos: Path, done: Sequence[VideoAnnotation]) -> tuple[dict[str, Any], float]:
    """Annotate videos and train; return the last state of the training and its wall seconds."""
    page = Page(videos)
    try:
        for video in done:
            page.call("/api/video", {"edit": edit_of(video), "base": ""}, "PUT", id=video.video_id)
        start = time.perf_counter()
        page.call("/api/training", {"kind": "quick"}, "POST")
        while (state := page.call("/api/training"))["stage"] in ("training", "exporting"):
            time.sleep(2)
        seconds = time.perf_counter() - start
        if state["stage"] != "done":
            raise SystemExit("\n".join([state["error"], *state["log"][-20:]]))
        return state, seconds
    finally:
        page.close()


def edit_of(video: VideoAnnotation) -> dict[str, Any]:
    """Return what the page saves when a person has marked everything and presses Enter."""
    annotations = [
        {"label": segment.label, "segment": [segment.start_seconds, segment.end_seconds]}
        for segment in video.segments
    ]
    return {
        "annotations": annotations,
        "state": "done",
        "subset": video.subset,
        "scene": video.scene or "",
        "comment": "",
    }


def drafts(videos: Path, others: Sequence[VideoAnnotation]) -> dict[str, Any]:
    """Return what the new bundle finds in videos that were not annotated."""
    (bundle,) = (videos / ".tsm-review" / "train" / "bundles").iterdir()
    output = videos.parent / "found.json"
    paths = [str(videos / f"{video.video_id}.mp4") for video in others]
    command = [*program("tsm_runtime.commands.run"), *paths, "--model", str(bundle), "-o", str(output)]
    subprocess.run(command, check=True)
    return read_segments(output)


if __name__ == "__main__":
    main()
