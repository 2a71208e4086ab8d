"""Many videos, one after another: a bad one does not stop the others."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import av
import numpy as np

from tsm_runtime import __version__
from tsm_runtime.bundle import Bundle
from tsm_runtime.errors import VideoError
from tsm_runtime.fusion.given import describe_fusion
from tsm_runtime.inputs import VideoInput
from tsm_runtime.pipeline import Member, Options, run
from tsm_runtime.progress import progress_bar
from tsm_runtime.sinks import Sink
from tsm_runtime.terminal import printable, warn

__all__ = ["describe_run", "run_all"]


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
    quiet: bool = False,
) -> int:
    """Run videos, each decoded once for all members, and hand their results to the sink.

    Returns:
        How many videos gave no result; each was told on standard error.
    """
    failures = 0
    for video in videos:
        show_progress = nullcontext(None) if quiet else progress_bar(video.path.name, options)
        try:
            with show_progress as progress:
                result = run(video.path, members, options, video_id=video.video_id, progress=progress)
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
