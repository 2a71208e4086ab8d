"""Many videos, one after another: a bad one does not stop the others."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing, nullcontext

import av
import numpy as np

from tsm_runtime import __version__
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.commands.fusion_flags import describe_fusion
from tsm_runtime.commands.progress import progress_bars
from tsm_runtime.errors import VideoError
from tsm_runtime.machine import num_cores
from tsm_runtime.models.nvdec import Nvdec
from tsm_runtime.outputs.sinks import Sink
from tsm_runtime.pipeline.run import Member, Options
from tsm_runtime.pipeline.scheduler import run_videos
from tsm_runtime.terminal import printable, warn
from tsm_runtime.video.finding import VideoInput

__all__ = ["default_jobs", "describe_run", "run_all"]

_MOST_JOBS = 8
_CORES_PER_JOB = 4
"""The decoder's own threads and the one that converts."""


def describe_run(bundles: Sequence[Bundle], members: Sequence[Member], options: Options) -> dict[str, object]:
    """Return where results come from, for `external_data`: models, options and versions.

    Of one model "model" and "options"; of an ensemble those of each of its "members", with weight and
    temperature, and the "fusion".
    """
    told = [
        {"model": _describe_model(bundle, member), "options": _describe_options(member, options)}
        for bundle, member in zip(bundles, members, strict=True)
    ]
    versions = {"tsm-tal": __version__, "av": av.__version__, "numpy": np.__version__}
    if len(told) == 1:
        return {**told[0], "versions": versions}
    return {
        "fusion": describe_fusion(options.fusion),
        "members": [
            {"weight": member.weight, "temperature": member.temperature, **each}
            for member, each in zip(members, told, strict=True)
        ],
        "versions": versions,
    }


def _describe_model(bundle: Bundle, member: Member) -> dict[str, object]:
    return {
        "bundle_sha256": bundle.manifest_sha256,
        "backbone": bundle.manifest.backbone,
        "backend": member.backend.name,
        "interval_seconds": bundle.manifest.interval_seconds,
        "num_frames": bundle.manifest.num_frames,
        "size": bundle.manifest.size,
        **({"view": view} if (view := member.view or bundle.manifest.view) else {}),
    }


def _describe_options(member: Member, options: Options) -> dict[str, object]:
    """Return what was asked for, and of the options that are off by default those that are on."""
    spec, rules = member.spec, member.rules
    on = {
        "window": spec.window_seconds if spec.margin_seconds else 0,
        "stride": spec.stride_seconds if spec.num_overlapping > 1 else 0,
        "smoothing": rules.smoothing_seconds,
        "min_duration": rules.min_duration_seconds,
        "thresholds": rules.thresholds,
    }
    told = {"start": options.start_seconds, "end": options.end_seconds, "min_score": options.min_score}
    return {**told, **{name: value for name, value in on.items() if value}}


def run_all(
    videos: Sequence[VideoInput],
    members: Sequence[Member],
    options: Options,
    sink: Sink,
    *,
    jobs: int | None = None,
    quiet: bool = False,
    nvdec: Nvdec | None = None,
) -> int:
    """Run videos, each decoded once for all members, and hand their results to the sink, in their order.

    Args:
        videos: what to run on.
        members: models; left open.
        options: which part of the videos, and what to keep.
        sink: takes the results.
        jobs: videos at a time; default: `default_jobs`.
        quiet: show no progress and no warnings.
        nvdec: decodes on a GPU, one video at a time.

    Returns:
        How many videos gave no result; each was told on standard error.
    """
    failures = 0
    with ExitStack() as held:
        bars = None if quiet else held.enter_context(progress_bars(options))
        found = run_videos(
            videos,
            members,
            options,
            jobs=jobs or (default_jobs(members) if nvdec is None else 1),
            nvdec=nvdec,
            progress=None if bars is None else bars.report,
        )
        for video, result in held.enter_context(closing(found)):
            with nullcontext() if bars is None else bars.away(video):
                if isinstance(result, VideoError):
                    failures += 1
                    warn(printable(str(result)))
                    continue
                for line in () if quiet else result.warnings:
                    warn(printable(f"{video.path}: {line}"))
                sink.add(result)
    sink.close()
    return failures


def default_jobs(members: Sequence[Member]) -> int:
    """Return how many videos to decode at a time: one where the models need the cores that decoding needs.

    One video is read at up to some 500 frames a second, as one core converts the pictures; a GPU takes more.
    """
    if any(member.backend.device == "cpu" for member in members):
        return 1
    return max(1, min(_MOST_JOBS, num_cores() // _CORES_PER_JOB))
