"""Results that are written here and sent to an object store."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from tsm_runtime.archive.addresses import open_store, reason, shown
from tsm_runtime.errors import RunError, UsageError

_SYNC_SECONDS = 10.0


@contextmanager
def remote_output(url: str, *, resume: bool) -> Iterator[str]:
    """Yield a local path to write to, whose files are sent to an address during the run and at the end.

    If the run resumes, the folder is first copied here. The store has no lock: users must avoid two runs that
    write to one folder.

    Raises:
        UsageError: the address cannot be written.
        RunError: a file could not be written at the end.
    """
    store, target = open_store(url)
    with tempfile.TemporaryDirectory(prefix="tsm-output-") as name:
        local = Path(name) / "out"
        is_folder = url.endswith("/")
        if is_folder:
            local.mkdir()
        try:
            if is_folder and resume and store.exists(target):
                store.get(target.rstrip("/") + "/", f"{local}/", recursive=True)
            probe = f"{target.rstrip('/')}{'/' if is_folder else ''}.tsm-trial"
            store.pipe_file(probe, b"")
            store.rm_file(probe)
        except Exception as error:  # see `Scratch.find`
            raise UsageError(f"--output {shown(url)}: cannot be written ({reason(error, url)})") from error
        path = local if is_folder else Path(name) / PurePosixPath(target).name
        upload = _Upload(store, target, path, url)
        upload.note()
        stop = threading.Event()
        thread = threading.Thread(target=upload.repeat, args=(stop,), name="upload", daemon=True)
        thread.start()
        try:
            yield f"{path}/" if is_folder else str(path)
        finally:
            stop.set()
            thread.join()
            upload.finish()


class _Upload:
    """Sends new files of a folder, or one file at the end."""

    def __init__(self, store: Any, target: str, path: Path, url: str) -> None:
        self._store, self._target, self._path, self._url = store, target.rstrip("/"), path, url
        self._sent: dict[Path, int] = {}

    def note(self) -> None:
        """Mark the existing files as sent."""
        self._sent = {path: path.stat().st_mtime_ns for path in self._files()}

    def repeat(self, stop: threading.Event) -> None:
        """Send new files every few seconds."""
        while not stop.wait(_SYNC_SECONDS):
            if self._path.is_dir():
                try:
                    self._send()
                except Exception:  # retried later, and reported at the end
                    continue

    def finish(self) -> None:
        """Send the rest."""
        try:
            self._send()
        except Exception as error:  # see `Scratch.find`
            raise RunError(f"cannot write {shown(self._url)} ({reason(error, self._url)})") from error

    def _send(self) -> None:
        for path in self._files():
            when = path.stat().st_mtime_ns
            if self._sent.get(path) != when:
                self._store.put_file(str(path), self._name(path))
                self._sent[path] = when

    def _name(self, path: Path) -> str:
        if self._path.is_dir():
            return f"{self._target}/{path.relative_to(self._path).as_posix()}"
        return f"{self._target.rpartition('/')[0]}/{path.name}"

    def _files(self) -> list[Path]:
        if self._path.is_dir():
            hidden = (path for path in self._path.rglob("*") if path.is_file() and path.suffix != ".tmp")
            return sorted(path for path in hidden if not path.name.startswith("lock"))
        others = self._path.parent.glob(f"{self._path.stem}*")
        return sorted(path for path in others if path.is_file())
