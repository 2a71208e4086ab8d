"""The ActivityNet JSON that the page edits and training reads."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tsm_runtime.errors import TsmError, UsageError
from tsm_runtime.files import read_json, write_whole
from tsm_serve.review.entries import Entry, EntryEdit, edited, etag_of
from tsm_serve.review.journal import Journal


@dataclass(eq=False)
class ConflictError(TsmError):
    """The entry is no longer the one that was edited; nothing was written."""

    video_id: str
    current: Entry | None
    etag: str

    def __str__(self) -> str:
        return f"video {self.video_id!r} was changed by another tab or program meanwhile"


class TruthFile:
    """The truth file: read again when another program changed it, replaced whole by each save.

    Threads may use it at once.

    Args:
        path: the file; it need not exist yet.
        journal: gets every save before the file does. A save that only the journal has, because the program
            died between the two, is written at once.

    Raises:
        UsageError: the file is not ActivityNet JSON.
    """

    def __init__(self, path: Path, journal: Journal) -> None:
        self.path = path
        self._journal = journal
        self._lock = threading.RLock()
        self._stamp: tuple[int, int, int] | None = None
        self._digest = ""
        self._document: dict[str, Any] = {"database": {}}
        self.refresh()
        self.recovered = self._recover()

    @property
    def video_ids(self) -> list[str]:
        """Ids in the order of the file."""
        with self._lock:
            return list(self._database)

    @property
    def _database(self) -> dict[str, Entry]:
        found: dict[str, Entry] = self._document["database"]
        return found

    def entry(self, video_id: str) -> Entry | None:
        """Return a video's entry, not to be changed."""
        with self._lock:
            return self._database.get(video_id)

    def names(self, key: str) -> list[str]:
        """Return the labels or scenes that the page stored for the whole file; `key` names the list."""
        with self._lock:
            stored = self._document.get("review", {}).get(key, [])
            return [str(name) for name in stored]

    def refresh(self) -> set[str]:
        """Read the file if it changed on disk and return the ids whose entries differ.

        Raises:
            UsageError: it is no longer ActivityNet JSON; what was read before stays.
        """
        with self._lock:
            stamp = _stamp_of(self.path)
            if stamp == self._stamp:
                return set()
            before = self._database
            if stamp is None:
                self._document, self._digest = {"database": {}}, ""
            else:
                data = self.path.read_bytes()
                document = read_json(self.path)
                if not isinstance(document, dict) or not isinstance(document.get("database"), dict):
                    raise UsageError(f'{self.path}: no "database" object; expected ActivityNet annotations')
                for video_id, entry in document["database"].items():
                    if not isinstance(entry, dict):
                        raise UsageError(f"{self.path}: video {video_id!r}: expected an object")
                self._document, self._digest = document, _digest(data)
            self._stamp = stamp
            ids = {*before, *self._database}
            return {i for i in ids if etag_of(before.get(i)) != etag_of(self._database.get(i))}

    def save(
        self, video_id: str, edit: EntryEdit, *, base: str, who: str, duration: float | None = None
    ) -> tuple[Entry, str]:
        """Apply an edit to the entry whose `etag_of` is `base`; return the new entry and its hash.

        Raises:
            ConflictError: the entry is another one by now.
            UsageError: the edit is not valid, or the file on disk is no longer ActivityNet JSON.
            RunError: the journal or the file could not be written; the file is as it was.
        """
        with self._lock:
            self.refresh()
            current = self._database.get(video_id)
            if etag_of(current) != base:
                raise ConflictError(video_id, current, etag_of(current))
            now = datetime.now(UTC).isoformat(timespec="seconds")
            entry = edited(current, edit, who=who, now=now, duration=duration)
            self._write(self._with_entry(video_id, entry), {"video": video_id, "entry": entry, "by": who})
            return entry, etag_of(entry)

    def save_names(self, key: str, names: list[str], *, who: str) -> None:
        """Store the labels or scenes of the whole file, in the order of their keys.

        Raises:
            RunError, UsageError: see `save`.
        """
        with self._lock:
            self.refresh()
            review = {**self._document.get("review", {}), key: names}
            self._write({**self._document, "review": review}, {"review": review, "by": who})

    def _with_entry(self, video_id: str, entry: Entry) -> dict[str, Any]:
        return {**self._document, "database": {**self._database, video_id: entry}}

    def _write(self, document: dict[str, Any], record: dict[str, Any]) -> None:
        data = (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "backslashreplace")
        after = _digest(data)
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._journal.append({**record, "at": at, "before": self._digest, "after": after})
        write_whole(self.path, data)
        self._document, self._digest, self._stamp = document, after, _stamp_of(self.path)

    def _recover(self) -> str | None:
        """Write the save that only the journal has; return its video's id."""
        last = self._journal.last()
        if last is None or last.get("before") != self._digest or "entry" not in last:
            return None
        video_id = str(last["video"])
        self._write(self._with_entry(video_id, last["entry"]), {k: last[k] for k in ("video", "entry", "by")})
        return video_id


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    return found.st_mtime_ns, found.st_size, found.st_ino
