"""`tsm-run` on files: what was asked is checked, models are opened, and each video's result is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from tsm_runtime._version import __version__
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.commands.progress import progress_bars
from tsm_runtime.errors import TsmError, UsageError, VideoError
from tsm_runtime.formats.names import Format
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.fusion.fuse import describe_fusion
from tsm_runtime.machine import num_cores
from tsm_runtime.models.choice import BackendRequest
from tsm_runtime.models.member import Member, Overrides
from tsm_runtime.models.nvdec import Hwdec, Nvdec, open_nvdec
from tsm_runtime.models.opening import closing_members, load_bundles, open_members
from tsm_runtime.outputs.overlay import check_overlay, with_overlay
from tsm_runtime.outputs.report.sink import report_request, with_report
from tsm_runtime.outputs.sinks import Encoding, Sink, check_output, choose_format, label_ids_for, open_sink
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run_videos
from tsm_runtime.terminal import printable, warn
from tsm_runtime.video.finding import VideoInput, list_inputs

__all__ = ["FileRequest", "default_jobs", "describe_run", "encoding_for", "run_all", "run_files"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRequest:
    """Options of the command as given; None where not."""

    videos: tuple[str, ...]
    for_streams: Mapping[str, object] = field(default_factory=dict)
    """Options that make no sense here, by their names: None where not given."""
    video_id: str | None = None
    output: str | None = None
    format: Format | None = None
    label_map: Path | None = None
    overlay: Path | None = None
    report: Path | None = None
    embed: bool = False
    truth: Path | None = None
    start: float = 0.0
    end: float | None = None
    batch: int | None = None
    jobs: int | None = None
    hwdec: Hwdec = "none"
    quiet: bool = False

    def __post_init__(self) -> None:
        if any(video == "-" or "://" in video for video in self.videos):
            raise UsageError("an address or - is a stream: add --live")
        for option, given in self.for_streams.items():
            if given is not None:
                raise UsageError(f"{option} is for streams: add --live")


def run_files(
    request: FileRequest,
    ensemble: Ensemble,
    backend: BackendRequest,
    overrides: Overrides,
    notice: str | None,
) -> int:
    """Find the segments of all videos; return the exit code.

    0: all were written. 1: some failed, the others were written. 3: none gave a result.

    Raises:
        TsmError: what a user can cause, before the first video is read.
    """
    options = Options(
        start_seconds=request.start,
        end_seconds=request.end,
        # An ensemble drops after weighing, as tsm-fuse does: weak segments support those of other members.
        min_score=ensemble.min_score if len(ensemble.members) == 1 else 0.0,
        batch_size=request.batch,
        fusion=ensemble.options,
    )
    inputs, errors = list_inputs([Path(video) for video in request.videos], request.video_id)
    check_output(request.output, inputs, request.format)
    if request.overlay is not None:
        check_overlay(request.overlay, inputs, request.output)
    page = report_request(request.report, request.embed, request.truth, inputs, request.output)
    for error in errors:
        warn(str(error))
    if not inputs:
        return VideoError.exit_code
    bundles = load_bundles(ensemble)
    with closing_members(open_members(ensemble, bundles, backend, overrides)) as members:
        sink = open_sink(
            request.output, request.format, encoding_for(request, inputs, bundles, members, options)
        )
        if request.overlay is not None:
            sink = with_overlay(sink, inputs[0].path, request.overlay, quiet=request.quiet)
        if page is not None:
            sink = with_report(sink, page, members)
        if notice:
            warn(notice)
        decoder = open_nvdec(request.hwdec, bundles, members, rebuild=backend.rebuild)
        with decoder or nullcontext() as nvdec:
            failures = run_all(
                inputs, members, options, sink, jobs=request.jobs, quiet=request.quiet, nvdec=nvdec
            )
    if failures == len(inputs):
        return VideoError.exit_code
    return TsmError.exit_code if failures or errors else 0


def encoding_for(
    request: FileRequest,
    inputs: Sequence[VideoInput],
    bundles: Sequence[Bundle],
    members: Sequence[Member],
    options: Options,
) -> Encoding:
    """Return how results become bytes, with what is told of where they come from.

    Raises:
        UsageError: a label map that is wrong or for another format.
    """
    format_ = choose_format(request.output, request.format)
    action_labels = list(dict.fromkeys(label for member in members for label in member.action_labels))
    return Encoding(
        format=format_,
        external_data=describe_run(bundles, members, options),
        media={video.video_id: video.path for video in inputs},
        label_ids=label_ids_for(format_, request.label_map, action_labels),
    )


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
