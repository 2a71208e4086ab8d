"""Many videos, one after another: a bad one does not stop the others."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import av
import numpy as np

from tsm_runtime import __version__
from tsm_runtime.backends import open_backend
from tsm_runtime.bundle import Bundle
from tsm_runtime.errors import VideoError
from tsm_runtime.inputs import VideoInput
from tsm_runtime.pipeline import Member, Options, run
from tsm_runtime.progress import progress_bar
from tsm_runtime.sinks import Sink
from tsm_runtime.terminal import printable, warn

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
    for video in videos:
        show_progress = nullcontext(None) if quiet else progress_bar(video.path.name, options)
        try:
            with show_progress as progress:
                result = run(video.path, member, options, video_id=video.video_id, progress=progress)
        except VideoError as error:
            failures += 1
            warn(printable(str(error)))
            continue
        if not quiet:
            for line in result.warnings:
                warn(printable(f"{video.path}: {line}"))
        sink.add(result)
    sink.close()
    return failures
