"""Many videos, one after another: a bad one does not stop the others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from tsm_runtime import __version__
from tsm_runtime.backends import open_backend
from tsm_runtime.bundle import Bundle
from tsm_runtime.errors import VideoError
from tsm_runtime.inputs import VideoInput
from tsm_runtime.pipeline import Member, Options, Progress, run
from tsm_runtime.sinks import Sink
from tsm_runtime.terminal import warn

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBar
    from rich.progress import TaskID

__all__ = ["describe_run", "open_member", "run_all"]


def open_member(bundle: Bundle, *, num_threads: int | None = None) -> Member:
    """Open a bundle's model on this machine."""
    manifest = bundle.manifest
    return Member(
        backend=open_backend(bundle, num_threads=num_threads),
        spec=manifest.clip_spec,
        action_labels=manifest.action_labels,
        scene_labels=manifest.scene_labels,
    )


def describe_run(bundle: Bundle, member: Member, options: Options) -> dict[str, object]:
    """Return where results come from: model, options and versions, for `external_data`."""
    return {
        "model": {
            "bundle_sha256": bundle.manifest_sha256,
            "backbone": bundle.manifest.backbone,
            "backend": member.backend.name,
            "interval_seconds": bundle.manifest.interval_seconds,
            "num_frames": bundle.manifest.num_frames,
            "size": bundle.manifest.size,
        },
        "options": {
            "start": options.start_seconds,
            "end": options.end_seconds,
            "min_score": options.min_score,
        },
        "versions": {"tsm-tal": __version__, "av": av.__version__, "numpy": np.__version__},
    }


def run_all(
    videos: Sequence[VideoInput], member: Member, options: Options, sink: Sink, *, quiet: bool = False
) -> int:
    """Run videos and hand their results to the sink.

    Returns:
        How many videos gave no result; each was told on standard error.
    """
    failures = 0
    bar = None if quiet or not sys.stderr.isatty() else _progress_bar()
    with bar or nullcontext():
        for video in videos:
            progress = None if bar is None else _reporter(bar, video.path)
            try:
                result = run(video.path, member, options, video_id=video.video_id, progress=progress)
            except VideoError as error:
                failures += 1
                warn(str(error))
                continue
            if not quiet:
                for line in result.warnings:
                    warn(f"{video.path}: {line}")
            sink.add(result)
    sink.close()
    return failures


def _progress_bar() -> ProgressBar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _reporter(bar: ProgressBar, path: Path) -> Progress:
    """Return a progress callback that shows seconds of video per second and the time left."""
    task: TaskID = bar.add_task(path.name, total=None, rate="")

    def report(done_seconds: float, claimed_seconds: float | None) -> None:
        elapsed = bar.tasks[task].elapsed or 0.0
        rate = f"{done_seconds / elapsed:.1f} x real time" if elapsed > 0 else ""
        total = max(claimed_seconds, done_seconds) if claimed_seconds else None
        bar.update(task, completed=done_seconds, total=total, rate=rate)

    return report
