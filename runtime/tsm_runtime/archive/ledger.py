"""Ledger of an archive run: results, failures and the summary, each written to disk immediately."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tsm_runtime.archive.addresses import as_address
from tsm_runtime.archive.choice import ArchiveOptions, Choice, ContentOf, choose_plans, contents_of
from tsm_runtime.archive.lock import locked
from tsm_runtime.archive.records import (
    RECORDS_FOLDER,
    Content,
    Record,
    RecordWriter,
    content_of,
    file_sha256,
    read_records,
    records_path,
)
from tsm_runtime.archive.settings import Settings, store_settings
from tsm_runtime.captures.selection import CapturePlan
from tsm_runtime.errors import RunError
from tsm_runtime.files import made_folder, write_whole
from tsm_runtime.formats.names import Format
from tsm_runtime.outputs.base import Sink
from tsm_runtime.outputs.output_names import result_path
from tsm_runtime.pipeline.run import CaptureOutcome
from tsm_runtime.wording import counted


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Content of summary.json: figures of a run."""

    videos: int
    """Videos of this run's share."""
    done: int
    """Videos done in this run."""
    skipped: int
    """Videos done in earlier runs."""
    failed: int
    """Videos that failed in this run, or before without a retry."""
    video_hours: float
    """Length of the videos done in this run, in hours."""
    wall_seconds: float
    hours_per_hour: float
    """Hours of video per hour."""

    def line(self) -> str:
        """Return the summary as one line of text."""
        skipped = f", {self.skipped} done before" if self.skipped else ""
        return (
            f"{self.done} of {counted(self.videos, 'video')} done{skipped}, {self.failed} failed;"
            f" {self.video_hours:.2f} h of video in {self.wall_seconds:.0f} s"
            f" ({self.hours_per_hour:.1f} hours an hour)"
        )


@dataclass(slots=True)
class Ledger:
    """Records the outcomes of one run; created by `open_ledger`."""

    folder: Path
    options: ArchiveOptions
    format: Format
    settings: str
    choice: Choice
    num_plans: int
    content: ContentOf
    _records: RecordWriter
    _failures: RecordWriter
    _begun: float = field(default_factory=time.monotonic)
    _num_done: int = 0
    _num_failed: int = 0
    _video_seconds: float = 0.0

    def keep(self, outcome: CaptureOutcome, sink: Sink) -> str | None:
        """Write the result of a video, or record its failure.

        Returns:
            Reason for a missing result that is not due to the video itself: the file changed while it was
            read, or its result could not be written.

        Raises:
            RunError: the records cannot be written.
        """
        plan = outcome.plan
        if outcome.result is None:
            self.fail(plan, failure_reason(outcome))
            return None
        before = self.choice.contents[plan.capture_id]
        if _unsummed(contents_of(plan, content=self.content)) != _unsummed(before):
            reason = "the file changed while the run was going on; --retry-failed runs it again"
            self.fail(plan, reason)
            return f"{plan.named.path}: {reason}"
        try:
            sink.add(outcome.result)
        except RunError as error:
            self.fail(plan, str(error))
            return str(error)
        digest = file_sha256(result_path(self.folder, plan.capture_id, self.format))
        contents = self._summed(plan, before)
        self._write("done", plan, contents, output_sha256=digest, seconds=outcome.result.duration_seconds)
        self._num_done += 1
        self._video_seconds += outcome.result.duration_seconds
        return None

    def fail(self, plan: CapturePlan, reason: str) -> None:
        """Record a video without a result."""
        self._num_failed += 1
        when = self._write("failed", plan, self.choice.contents[plan.capture_id], reason=reason)
        self._failures.write(
            {
                "video": plan.capture_id,
                "path": as_address(str(plan.named.path)),
                "reason": reason,
                "when": when,
            }
        )

    def summary(self) -> Summary:
        """Return the figures so far."""
        wall, hours = time.monotonic() - self._begun, self._video_seconds / 3600
        return Summary(
            videos=self.num_plans,
            done=self._num_done,
            skipped=len(self.choice.done),
            failed=self._num_failed + len(self.choice.failed),
            video_hours=round(hours, 6),
            wall_seconds=round(wall, 3),
            hours_per_hour=round(3600 * hours / max(wall, 1e-9), 3),
        )

    def write_summary(self) -> Summary:
        """Write summary.json and return it."""
        summary = self.summary()
        path = self.folder / f"summary{self.options.shard.suffix}.json"
        write_whole(path, msgspec.json.format(msgspec.json.encode(summary)) + b"\n")
        return summary

    def close(self) -> None:
        """Close the files."""
        self._records.close()
        self._failures.close()

    def _summed(self, plan: CapturePlan, contents: tuple[Content, ...]) -> tuple[Content, ...]:
        if not self.options.checksum or all(content.sha256 for content in contents):
            return contents
        return contents_of(plan, checksum=True, content=self.content)

    def _write(self, status: str, plan: CapturePlan, contents: tuple[Content, ...], **more: object) -> str:
        when = datetime.now(UTC).isoformat(timespec="seconds")
        fields = {"id": plan.capture_id, "contents": contents, "settings": self.settings, "when": when}
        self._records.write(Record(status=status, **fields, **more))  # type: ignore[arg-type]
        return when


@contextmanager
def open_ledger(
    folder: Path,
    plans: Sequence[CapturePlan],
    options: ArchiveOptions,
    settings: Settings,
    format_: Format,
    content: ContentOf = content_of,
) -> Iterator[Ledger]:
    """Lock an output folder, choose the videos to run, and record outcomes while the block runs.

    Args:
        folder: folder of the results, created if necessary.
        plans: all videos of the archive; those of other shards are left out.
        options: treatment of earlier results in the folder.
        settings: settings of the run.
        format_: format of the results.
        content: identifies the content of a file.

    Raises:
        UsageError: another run writes to the folder.
        RunError: the folder cannot be written to.
    """
    held = folder / RECORDS_FOLDER
    made_folder(held, shown=folder)
    with locked(held, options.shard):
        own = [plan for plan in plans if options.shard.holds(plan.capture_id)]
        name = store_settings(held, settings)
        outputs = {plan.capture_id: result_path(folder, plan.capture_id, format_) for plan in own}
        if options.shard.count == 1:
            _remove_leftovers(folder)
        records = read_records(held)
        choice = choose_plans(own, records, outputs, options, (name, settings), held, content)
        ledger = Ledger(
            folder=folder,
            options=options,
            format=format_,
            settings=name,
            choice=choice,
            num_plans=len(own),
            content=content,
            _records=RecordWriter(records_path(held, options.shard)),
            _failures=_begin_failures(folder / f"failures{options.shard.suffix}.jsonl", own, choice),
        )
        try:
            yield ledger
        finally:
            ledger.close()


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed runs; the lock keeps other runs out of the folder."""
    for path in folder.rglob(".tsm-*.tmp"):
        path.unlink(missing_ok=True)


def _begin_failures(path: Path, plans: Sequence[CapturePlan], choice: Choice) -> RecordWriter:
    """Write the earlier failures that are kept, and return the writer for further ones."""
    paths = {plan.capture_id: as_address(str(plan.named.path)) for plan in plans}
    lines = [
        msgspec.json.encode({"video": r.id, "path": paths[r.id], "reason": r.reason, "when": r.when})
        for r in choice.failed
    ]
    write_whole(path, b"".join(line + b"\n" for line in lines))
    return RecordWriter(path)


def failure_reason(outcome: CaptureOutcome) -> str:
    """Return the reason why a video or capture has no result."""
    errors = [str(video.error) for video in outcome.videos if video.error is not None]
    return as_address("; ".join(errors)) or "no video of it gave a result"


def _unsummed(contents: tuple[Content, ...]) -> tuple[Content, ...]:
    return tuple(msgspec.structs.replace(content, sha256="") for content in contents)
