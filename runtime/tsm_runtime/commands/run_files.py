"""`tsm-run` on files: what was asked is checked, models are opened, and each video's result is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from tsm_runtime.batch_run import describe_run, run_all
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.errors import TsmError, UsageError, VideoError
from tsm_runtime.formats.names import Format
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.models.choice import BackendRequest
from tsm_runtime.models.member import Member
from tsm_runtime.models.nvdec import Hwdec, open_nvdec
from tsm_runtime.models.opening import closing_members, load_bundles, open_members
from tsm_runtime.outputs.overlay import check_overlay, with_overlay
from tsm_runtime.outputs.report.sink import report_request, with_report
from tsm_runtime.outputs.sinks import Encoding, check_output, choose_format, label_ids_for, open_sink
from tsm_runtime.pipeline.options import Options, Overrides
from tsm_runtime.terminal import warn
from tsm_runtime.video.finding import VideoInput, list_inputs

__all__ = ["FileRequest", "encoding_for", "run_files"]


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
