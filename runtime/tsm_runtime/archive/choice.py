"""Choice of the videos of an archive that are still to be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tsm_runtime.archive.records import Content, Record, content_of, file_sha256, find_done
from tsm_runtime.archive.settings import Settings, describe_change
from tsm_runtime.archive.shard import Shard
from tsm_runtime.captures.selection import CapturePlan
from tsm_runtime.errors import UsageError
from tsm_runtime.wording import counted, first_of

_MOST_NAMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveOptions:
    """Treatment of earlier results in an output folder.

    Args:
        resume: skip videos whose results from the same content, bundles and options are in the folder.
        checksum: compare contents by SHA-256, not by size and time.
        shard: the share of this run.
        retry_failed: also run videos again that failed before; implies `resume`.

    Raises:
        UsageError: the options contradict each other.
    """

    resume: bool = False
    checksum: bool = False
    shard: Shard = field(default_factory=Shard)
    retry_failed: bool = False

    @property
    def continues(self) -> bool:
        """Whether earlier results count."""
        return self.resume or self.retry_failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Videos to run, and videos to skip.

    Args:
        todo: plans to run.
        contents: contents of the videos of every plan, by the plan's id; a missing file has none.
        done: records of results that are kept.
        failed: records of earlier failures that are not tried again.
        notes: one line for each change.
    """

    todo: Sequence[CapturePlan]
    contents: Mapping[str, tuple[Content, ...]]
    done: Sequence[Record] = ()
    failed: Sequence[Record] = ()
    notes: Sequence[str] = ()


class ContentOf(Protocol):
    """Signature of `records.content_of`."""

    def __call__(self, path: Path, *, checksum: bool = False) -> Content: ...  # noqa: D102


def contents_of(
    plan: CapturePlan, *, checksum: bool = False, content: ContentOf = content_of
) -> tuple[Content, ...]:
    """Return the contents of a plan's videos; missing files are left out."""
    found = []
    for video, _ in plan.begins:
        try:
            found.append(content(video.path, checksum=checksum))
        except OSError:
            continue
    return tuple(found)


def choose_plans(
    plans: Sequence[CapturePlan],
    records: Mapping[str, Sequence[Record]],
    output_of: Mapping[str, Path],
    options: ArchiveOptions,
    settings: tuple[str, Settings],
    folder: Path,
    content: ContentOf = content_of,
) -> Choice:
    """Choose the plans to run.

    Args:
        plans: plans of the shard.
        records: records of earlier runs, by id.
        output_of: returns the file of a result by id; if the file is missing or has changed, the video is run
            again.
        options: treatment of earlier results.
        settings: settings of this run, and their hash.
        folder: folder of the records.
        content: identifies the content of a file.
    """
    todo, done, failed, contents = [], [], [], {}
    changed: list[str] = []
    other: dict[str, list[str]] = {}
    for plan in plans:
        own = records.get(plan.capture_id, ()) if options.continues else ()
        now = contents_of(plan, checksum=options.checksum and bool(own), content=content)
        contents[plan.capture_id] = now
        found = find_done(own, settings[0], now, checksum=options.checksum)
        if found is not None and found.status == "failed" and not options.retry_failed:
            failed.append(found)
        elif found is not None and found.status == "done" and _is_there(output_of[plan.capture_id], found):
            done.append(found)
        else:
            todo.append(plan)
            _note_change(plan.capture_id, own, settings[0], now, options, changed, other)
    notes = _notes(changed, other, folder, settings[1])
    return Choice(todo=todo, contents=contents, done=done, failed=failed, notes=notes)


def _is_there(path: Path, record: Record) -> bool:
    try:
        return file_sha256(path) == record.output_sha256
    except OSError:
        return False


def _note_change(
    video_id: str,
    own: Sequence[Record],
    settings: str,
    now: tuple[Content, ...],
    options: ArchiveOptions,
    changed: list[str],
    other: dict[str, list[str]],
) -> None:
    """Record the reason why a video is run again."""
    if not own:
        return
    with_settings = [record for record in own if record.settings == settings]
    if with_settings and find_done(with_settings, settings, now, checksum=options.checksum) is None:
        changed.append(video_id)
    elif not with_settings:
        other.setdefault(own[-1].settings, []).append(video_id)


def _notes(
    changed: Sequence[str], other: Mapping[str, Sequence[str]], folder: Path, settings: Settings
) -> list[str]:
    notes = []
    if changed:
        notes.append(f"{_counted(changed)} changed since the last run: run again")
    for old, ids in other.items():
        what = describe_change(folder, old, settings)
        notes.append(f"{_counted(ids)} run with other settings ({what}): run again")
    return notes


def _counted(ids: Sequence[str]) -> str:
    return f"{counted(len(ids), 'video')} ({first_of(ids, _MOST_NAMES)})"


def check_options(options: ArchiveOptions, *, has_folder: bool) -> None:
    """Check that the options fit the output.

    Raises:
        UsageError: the options need a folder, or there is nothing to compare.
    """
    given = {
        "--resume": options.resume,
        "--retry-failed": options.retry_failed,
        "--checksum": options.checksum,
    }
    for flag, is_given in given.items():
        if is_given and not has_folder:
            raise UsageError(f"{flag} is for a folder with a file for each video: --output FOLDER/")
