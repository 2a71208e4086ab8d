"""Draw a data set: videos, and their ground truth as ActivityNet JSON."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from tsm_train.synthetic.places import SCENES
from tsm_train.synthetic.plan import FRAMES_PER_SECOND
from tsm_train.synthetic.video import VideoTruth, check_action, count_frames, draw_video

VERSION = "tsm-tal synthetic 1"
_SUBSETS = ("training", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One video, or what all have in common: its path is the folder then."""

    video_id: str = ""
    subset: str = ""
    path: Path
    seed: int
    scene: str = ""
    seconds: float
    width: int
    height: int
    crf: int
    figures: int
    short: float

    def numbered(self, part: int, number: int) -> Self:
        """Return one video of a subset."""
        video_id = f"{_SUBSETS[part]}_{number:04d}"
        return replace(
            self,
            video_id=video_id,
            subset=_SUBSETS[part],
            path=self.path / f"{video_id}.mp4",
            seed=_video_seed(self.seed, part, number),
            scene=SCENES[number % len(SCENES)],
        )

    def draw(self) -> VideoTruth:
        return draw_video(
            self.path,
            seed=self.seed,
            seconds=self.seconds,
            width=self.width,
            height=self.height,
            crf=self.crf,
            scene=self.scene,
            figures=self.figures,
            short=self.short,
        )


def _video_seed(seed: int, subset: int, number: int) -> int:
    """Return a 64-bit seed of its own for every video of all subsets, whatever their numbers."""
    return int(np.random.SeedSequence([seed, subset, number]).generate_state(1, np.uint64)[0])


def _entry(job: _Job, truth: VideoTruth) -> dict[str, object]:
    return {
        "subset": job.subset,
        "duration": truth.duration_seconds,
        "resolution": f"{job.width}x{job.height}",
        "fps": FRAMES_PER_SECOND,
        "scene": truth.scene,
        "annotations": [
            {"label": segment.label, "segment": [segment.start_seconds, segment.end_seconds]}
            for segment in truth.segments
        ],
    }


def _draw_all(jobs: list[_Job], processes: int | None, on_video: Callable[[int], None]) -> list[VideoTruth]:
    if processes == 1:
        truths = []
        for number, job in enumerate(jobs, start=1):
            truths.append(job.draw())
            on_video(number)
        return truths
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(job.draw) for job in jobs]
        try:
            for number, future in enumerate(as_completed(futures), start=1):
                future.result()
                on_video(number)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _write_json(path: Path, value: object) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def draw_dataset(
    folder: Path,
    *,
    seed: int,
    training: int,
    validation: int,
    test: int = 0,
    seconds: float = 30.0,
    width: int = 192,
    height: int = 144,
    crf: int = 23,
    figures: int = 1,
    short: float = 0.0,
    processes: int | None = None,
    on_video: Callable[[int], None] = lambda number: None,
) -> Path:
    """Draw `<folder>/videos/<id>.mp4` and, last, `<folder>/ground_truth.json`.

    Args:
        folder: made when it does not exist.
        seed: fixes everything that is random; a video depends on it, its subset and its number alone.
        training: number of videos in the subset "training".
        validation: number of videos in the subset "validation".
        test: number of videos in the subset "test".
        seconds: duration of every video.
        width: of the picture in pixels, even.
        height: of the picture in pixels, even.
        crf: constant rate factor of x264.
        figures: 1, or 2 whose actions overlap, see `draw_video`.
        short: share of the actions that last 0.2 to 0.4 s.
        processes: how many draw at a time; None is one per CPU core. They are spawned, so that a script that
            calls this needs the usual `if __name__ == "__main__":`.
        on_video: called in this process with the number of finished videos.

    Returns:
        Path of the JSON file.

    Raises:
        ValueError: there are no videos to draw, or an argument of `draw_video` is wrong.
    """
    counts = (training, validation, test)
    if min(counts) < 0 or sum(counts) == 0:
        raise ValueError(
            f"expected at least one video, got {training} training, {validation} validation and {test} test"
        )
    check_action(figures, short)
    count_frames(seconds, width, height)
    videos = folder / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    alike = _Job(
        path=videos,
        seed=seed,
        seconds=seconds,
        width=width,
        height=height,
        crf=crf,
        figures=figures,
        short=short,
    )
    jobs = [alike.numbered(part, number) for part, count in enumerate(counts) for number in range(count)]
    truths = _draw_all(jobs, processes, on_video)
    database = {job.video_id: _entry(job, truth) for job, truth in zip(jobs, truths, strict=True)}
    path = folder / "ground_truth.json"
    _write_json(path, {"version": VERSION, "taxonomy": [], "database": database})
    return path
