"""`tsm-run` on captures: each member runs on the videos of its view, and a capture's members are fused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.captures.layout import Capture, capture_of_views, find_captures
from tsm_runtime.captures.selection import CapturePlan, listed_views, plan_captures
from tsm_runtime.captures.timeline import join_results
from tsm_runtime.commands.progress import progress_bars
from tsm_runtime.commands.run_files import FileRequest, default_jobs, encoding_for
from tsm_runtime.errors import TsmError, UsageError, VideoError
from tsm_runtime.formats.read_write import Result
from tsm_runtime.fusion.calibration import calibrated_result
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.fusion.fuse import fuse_results
from tsm_runtime.models.choice import BackendRequest
from tsm_runtime.models.member import Member, Overrides
from tsm_runtime.models.nvdec import Nvdec, open_nvdec
from tsm_runtime.models.opening import closing_members, load_bundles, open_members
from tsm_runtime.outputs.sinks import Sink, check_output, open_sink
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run_videos
from tsm_runtime.terminal import printable, warn
from tsm_runtime.video.finding import VideoInput

__all__ = ["CaptureRequest", "run_captures"]

_UNTOLD = "panoramic"
"""What a model sees of which nothing is told: the view that training takes, unless another is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """Options of the command as given.

    Args:
        files: those that runs on files have too.
        captures: folders of 360+x, folder/id or a video of a capture.
        views: videos of one capture, see `capture_of_views`.
        offsets: file that says where videos begin on the captures' time lines.
    """

    files: FileRequest
    captures: tuple[Path, ...] = ()
    views: tuple[str, ...] = ()
    offsets: Path | None = None

    def __post_init__(self) -> None:
        option = "--capture" if self.captures else "--view"
        if self.captures and self.views:
            raise UsageError("--capture beside --view: the first finds the videos, the second names them")
        if self.files.videos:
            raise UsageError(f"{self.files.videos[0]} beside {option}: which view is it? name it with --view")
        if self.views and self.offsets is not None:
            raise UsageError("--offsets beside --view: write VIEW=FILE@SECONDS")
        alone = {
            "--overlay": self.files.overlay,
            "--report": self.files.report,
            "--embed": self.files.embed or None,
            "--truth": self.files.truth,
            "--start": self.files.start or None,
            "--end": self.files.end,
        }
        for name, given in alone.items():
            if given is not None:
                raise UsageError(f"{name} is for a video alone: leave it out beside {option}")

    def find(self) -> list[Capture]:
        """Return the captures.

        Raises:
            UsageError: there is none, or `--id` would name several.
        """
        if self.views:
            return [capture_of_views(self.views, self.files.video_id)]
        found = find_captures(self.captures)
        if self.files.video_id is None:
            return found
        if len(found) > 1:
            raise UsageError(f"--id names one capture, but {len(found)} were given")
        return [replace(found[0], capture_id=self.files.video_id)]


def run_captures(
    request: CaptureRequest,
    ensemble: Ensemble,
    backend: BackendRequest,
    overrides: Overrides,
    notice: str | None,
) -> int:
    """Find what happens in each capture, on its time line; return the exit code.

    0: all were written, with a voice for each view that is there. 1: some videos or captures failed, the
    others were written. 3: none gave a result.

    Raises:
        TsmError: what a user can cause, before the first video is read.
    """
    captures = request.find()
    bundles = load_bundles(ensemble)
    views = [
        listed_views(entry.view or bundle.manifest.view or _UNTOLD)
        for entry, bundle in zip(ensemble.members, bundles, strict=True)
    ]
    plans = plan_captures(captures, ensemble, views, request.offsets)
    videos = [video for plan in plans for video in plan.inputs]
    named = [plan.named for plan in plans]
    check_output(request.files.output, named, request.files.format)
    check_output(request.files.output, videos, "json")
    for line in () if request.files.quiet else _untold(ensemble, bundles):
        warn(line)
    options = Options(
        min_score=ensemble.min_score if sum(map(len, views)) == 1 else 0.0,
        batch_size=request.files.batch,
        fusion=ensemble.options,
    )
    with closing_members(open_members(ensemble, bundles, backend, overrides)) as opened:
        members = [
            replace(member, view=view) for member, seen in zip(opened, views, strict=True) for view in seen
        ]
        of_members = [bundle for bundle, seen in zip(bundles, views, strict=True) for _ in seen]
        encoding = encoding_for(request.files, named, of_members, members, options)
        begins = {p.capture.capture_id: {video.name: begin for video, begin in p.begins} for p in plans}
        encoding = replace(encoding, external_data={**encoding.external_data, "captures": begins})
        sink = open_sink(request.files.output, request.files.format, encoding)
        if notice:
            warn(notice)
        decoder = open_nvdec(request.files.hwdec, bundles, opened, rebuild=backend.rebuild)
        with decoder or nullcontext() as nvdec:
            run = _CaptureRun(members=members, options=options, sink=sink, quiet=request.files.quiet)
            return run.run(plans, request.files.jobs, nvdec)


def _untold(ensemble: Ensemble, bundles: Sequence[Bundle]) -> Iterator[str]:
    for entry, bundle in zip(ensemble.members, bundles, strict=True):
        if not (entry.view or bundle.manifest.view):
            yield f"{bundle.path}: tells no view; taken as {_UNTOLD}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _CaptureRun:
    """Members, each for one view, and where the results of captures go."""

    members: Sequence[Member]
    options: Options
    sink: Sink
    quiet: bool

    def run(self, plans: Sequence[CapturePlan], jobs: int | None, nvdec: Nvdec | None) -> int:
        """Run the captures, and return the exit code."""
        num_lost, any_failed = 0, False
        with ExitStack() as held:
            bars = None if self.quiet else held.enter_context(progress_bars(self.options))
            found = run_videos(
                [video for plan in plans for video in plan.inputs],
                self.members,
                self.options,
                jobs=jobs or (default_jobs(self.members) if nvdec is None else 1),
                nvdec=nvdec,
                progress=None if bars is None else bars.report,
            )
            held.enter_context(closing(found))
            for plan in plans:
                results: list[Result | None] = []
                for video, result in (next(found) for _ in plan.begins):
                    with nullcontext() if bars is None else bars.away(video):
                        results.append(self._kept(video, result))
                any_failed |= None in results
                with nullcontext() if bars is None else bars.away(plan.named):
                    num_lost += not self._give(plan, results)
        self.sink.close()
        if num_lost == len(plans):
            return VideoError.exit_code
        return TsmError.exit_code if num_lost or any_failed else 0

    def _kept(self, video: VideoInput, result: Result | VideoError) -> Result | None:
        """Tell what was noticed of a video."""
        if isinstance(result, VideoError):
            warn(printable(str(result)))
            return None
        for line in () if self.quiet else result.warnings:
            warn(printable(f"{video.path}: {line}"))
        return result

    def _give(self, plan: CapturePlan, results: Sequence[Result | None]) -> bool:
        """Hand the result of a capture on, if there is one."""
        capture_id = plan.capture.capture_id
        for note in () if self.quiet else plan.notes:
            warn(printable(f"capture {capture_id}: {note}"))
        voices = [self._voice(number, plan, results) for number in range(len(self.members))]
        if not any(voices):
            warn(printable(f"capture {capture_id}: no video of it gave a result"))
            return False
        if len(voices) == 1:
            self.sink.add(voices[0])  # type: ignore[arg-type]
            return True
        pairs = zip(voices, self.members, strict=True)
        calm = [None if voice is None else calibrated_result(voice, m.temperature) for voice, m in pairs]
        fused = fuse_results(calm, [member.weight for member in self.members], self.options.fusion)
        self.sink.add(replace(fused, members=tuple(voices)))
        return True

    def _voice(self, number: int, plan: CapturePlan, results: Sequence[Result | None]) -> Result | None:
        """Return what a member found in the videos of its view, on the capture's time line."""
        view = self.members[number].view
        place = sum(member.view == view for member in self.members[:number])  # among those of its view
        parts = []
        for (video, begin), result in zip(plan.begins, results, strict=True):
            if video.view == view and result is not None:
                own = result.members[place] if result.members else result
                if own is not None:
                    parts.append((own, begin))
        return join_results(plan.capture.capture_id, parts) if parts else None
