"""Outcomes of videos to files, books and standard error."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass

from tsm_runtime.archive.addresses import as_address
from tsm_runtime.archive.ledger import Ledger, failure_reason
from tsm_runtime.commands.progress import ProgressBars
from tsm_runtime.errors import TsmError, VideoError
from tsm_runtime.outputs.base import Sink
from tsm_runtime.outputs.metrics import RunMetrics
from tsm_runtime.pipeline.run import CaptureOutcome
from tsm_runtime.terminal import log_event, printable, warn
from tsm_runtime.wording import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What gave no result: videos, and captures of which no video did. A plain video is both."""

    num_videos: int = 0
    failures: tuple[str, ...] = ()
    """A line for each capture without a result."""

    @property
    def num_captures(self) -> int:
        """Number of captures without a result."""
        return len(self.failures)

    def exit_code(self, num_captures: int, *, any_failed: bool = False) -> int:
        """Return the exit code of a run on so many captures; `any_failed`: an input was no video at all."""
        if self.num_captures == num_captures:
            return VideoError.exit_code
        return TsmError.exit_code if self.num_captures or self.num_videos or any_failed else 0

    def summary(self, num_captures: int, *, counts: bool) -> tuple[str, ...]:
        """Return lines for the end of a run on several videos: which failed, and how many are done."""
        if num_captures < 2:
            return ()
        listed = ("failed:", *(f"  {line}" for line in self.failures)) if self.failures else ()
        if not counts:
            return listed
        failed = f", {self.num_captures} failed" if self.failures else ""
        return (
            *listed,
            f"{num_captures - self.num_captures} of {counted(num_captures, 'video')} done{failed}",
        )


def write_outcomes(
    outcomes: Generator[CaptureOutcome],
    sink: Sink,
    *,
    ledger: Ledger | None = None,
    bars: ProgressBars | None = None,
    metrics: RunMetrics | None = None,
    quiet: bool = False,
) -> Losses:
    """Pass the results of videos to a sink as they come, and report errors and warnings.

    However the run ends, the outcomes are closed first and then the sink, so that what is there is written.

    Args:
        outcomes: of videos or captures.
        sink: takes the results.
        ledger: keeps the books of an archive; there a result that cannot be written costs this video alone.
        bars: make way for what is printed.
        metrics: count outcomes.
        quiet: print no warnings.

    Returns:
        How many gave no result.
    """
    num_videos, failures = 0, list[str]()
    with ExitStack() as held:
        held.callback(sink.close)
        for outcome in held.enter_context(closing(outcomes)):
            with nullcontext() if bars is None else bars.away([video.video for video in outcome.videos]):
                _report(outcome, quiet=quiet)
                is_lost = not _keep(outcome, sink, ledger)
            _log(outcome, is_lost=is_lost)
            if metrics is not None:
                metrics.take(outcome, is_kept=not is_lost)
            num_videos += sum(video.error is not None for video in outcome.videos)
            if is_lost:
                name = "" if outcome.plan.is_video else f"capture {outcome.plan.capture_id}: "
                failures.append(f"{name}{failure_reason(outcome)}")
            if bars is not None:
                seconds = 0.0 if outcome.result is None else outcome.result.duration_seconds
                bars.finished(done_seconds=seconds, is_lost=is_lost)
    return Losses(num_videos=num_videos, failures=tuple(failures))


def _keep(outcome: CaptureOutcome, sink: Sink, ledger: Ledger | None) -> bool:
    """Write the result of a video or capture; return whether there is one."""
    if ledger is not None:
        if why := ledger.keep(outcome, sink):
            warn(printable(why))
        return outcome.result is not None and why is None
    if outcome.result is None:
        sink.fail(outcome.plan.capture_id, failure_reason(outcome))
        return False
    sink.add(outcome.result)
    return True


def _log(outcome: CaptureOutcome, *, is_lost: bool) -> None:
    """Log how a video or capture ended, where a log is kept."""
    video, result = outcome.plan.capture_id, outcome.result
    if is_lost or result is None:
        log_event("video failed", video=video, reason=failure_reason(outcome))
        return
    found = {
        "segments": len(result.segments),
        "seconds": result.duration_seconds,
        "complete": result.complete,
    }
    log_event("video done", video=video, **found)


def _report(outcome: CaptureOutcome, *, quiet: bool) -> None:
    """Print errors and warnings of a video or capture on standard error."""
    for video in outcome.videos:
        if video.error is not None:
            warn(printable(as_address(str(video.error))))
        for line in () if quiet else video.warnings:
            warn(printable(as_address(f"{video.video.path}: {line}")))
    plan = outcome.plan
    for note in () if quiet else plan.notes:
        warn(printable(f"capture {plan.capture_id}: {note}"))
    if outcome.result is None and not plan.is_video:
        warn(printable(f"capture {plan.capture_id}: no video of it gave a result"))
