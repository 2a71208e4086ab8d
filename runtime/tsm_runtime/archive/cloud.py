"""Videos and results in object stores and on web servers: copies in a bounded scratch folder (extra `cloud`).

fsspec reads and writes; it takes credentials from the provider's own environment and files. Credentials do
not appear in results, messages or records.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from tsm_runtime.archive.records import Content, content_of
from tsm_runtime.errors import BackendError, RunError, UsageError, VideoError
from tsm_runtime.video.finding import VIDEO_SUFFIXES

_REMOTE = re.compile(r"(s3|gs|gcs|az|abfs|abfss|https?|memory)://.+", re.IGNORECASE)
_POLL_SECONDS = 0.2
_SYNC_SECONDS = 10.0


def is_remote(text: str) -> bool:
    """Return whether a name is the address of a file or folder in a store or on a web server."""
    return _REMOTE.fullmatch(text) is not None


def shown(url: str) -> str:
    """Return an address without user, password and query, which may be secrets.

    >>> shown("https://me:secret@host/a/b.mp4?X-Amz-Signature=1")
    'https://host/a/b.mp4'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def as_address(text: str) -> str:
    """Return a text with the paths of local copies replaced by their addresses.

    >>> as_address("/tmp/tsm-scratch-1a_b/s3:/bucket/a.mp4: empty file")
    's3://bucket/a.mp4: empty file'
    """
    return re.sub(r"[^\s:]*tsm-scratch-\w+/(\w+):/", r"\1://", text)


def _open_store(url: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    try:
        import fsspec
    except ImportError as error:
        raise BackendError(f"{shown(url)} needs fsspec: pip install 'tsm-tal[cloud]'") from error
    try:
        find: Any = fsspec.core.url_to_fs
        store, path = find(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise BackendError(f"{shown(url)}: {_reason(error, url)}") from error
    return store, path


def _reason(error: BaseException, url: str) -> str:
    """Return the message of an error, without the parts of the address that `shown` removes."""
    query, user = urlsplit(url).query, urlsplit(url).netloc.rpartition("@")[0]
    text = " ".join(str(error).split()) or type(error).__name__
    for secret in filter(None, (query, user)):
        text = text.replace(secret, "...")
    return f"{type(error).__name__}: {text}"[:300]


@dataclass(frozen=True, slots=True)
class _Remote:
    store: Any
    key: str
    url: str
    size: int


@dataclass(slots=True)
class _Copy:
    """A local copy that is being made."""

    is_there: threading.Event = field(default_factory=threading.Event)
    error: str | None = None


class Scratch:
    """Local copies of remote videos, made ahead of decoding in the order of the run, and removed after it.

    Args:
        folder: folder for the copies.
        most_bytes: limit for all copies at a time; a larger video is the only copy.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._remotes: dict[Path, _Remote] = {}
        self._copies: dict[Path, _Copy] = {}
        self._used = 0
        self._room = threading.Condition()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def find(self, url: str) -> tuple[Path, list[Path]]:
        """Return the local folder for an address, and the local paths of its videos.

        Raises:
            UsageError: the address cannot be listed: no such bucket, no access, expired credentials.
            BackendError: the package for such addresses is not installed.
        """
        store, path = _open_store(url)
        scheme = url.split("://", 1)[0].lower()
        root = self._folder / f"{scheme}:"
        try:
            if scheme.startswith("http") or store.isfile(path):
                found = {path: store.info(path)}
            else:
                found = store.find(path, detail=True)
        except Exception as error:  # the stores' packages have their own exceptions, with no common base
            raise UsageError(f"{shown(url)}: cannot be read ({_reason(error, url)})") from error
        videos = [key for key in sorted(found) if len(found) == 1 or _is_video(key)]
        for key in videos:
            local = root / shown(key).split("://", 1)[-1].lstrip("/")
            self._remotes[local] = _Remote(store, key, url, int(found[key].get("size") or 0))
        return root / shown(path).split("://", 1)[-1].strip("/"), [
            local for local, remote in self._remotes.items() if remote.url == url
        ]

    def content(self, path: Path, *, checksum: bool = False) -> Content:
        """Return the identity of a video's content: for a remote video its size and the store's tag.

        Raises:
            OSError: the video cannot be read.
        """
        remote = self._remotes.get(path)
        if remote is None:
            return content_of(path, checksum=checksum)
        try:
            info = remote.store.info(remote.key)
        except Exception as error:  # see `find`
            raise OSError(_reason(error, remote.url)) from error
        tag = info.get("ETag") or info.get("etag") or info.get("LastModified") or info.get("mtime") or ""
        return Content(size=int(info.get("size") or 0), version=str(tag))

    def begin(self, paths: Sequence[Path]) -> None:
        """Start copying videos, in this order."""
        wanted = [path for path in paths if path in self._remotes]
        self._copies = {path: _Copy() for path in wanted}
        if wanted:
            self._thread = threading.Thread(target=self._copy_all, args=(wanted,), name="fetch", daemon=True)
            self._thread.start()

    @contextmanager
    def local(self, path: Path) -> Iterator[None]:
        """Wait for the copy of a remote video, and remove it afterwards; a local video is used directly.

        Raises:
            VideoError: the video cannot be copied.
        """
        copy = self._copies.get(path)
        if copy is None:
            yield
            return
        while not copy.is_there.wait(_POLL_SECONDS):
            if self._closed.is_set():
                raise VideoError(f"{shown(self._remotes[path].url)}: the run has ended")
        if copy.error is not None:
            raise VideoError(copy.error)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with self._room:
                self._used -= self._remotes[path].size
                self._room.notify_all()

    def close(self) -> None:
        """Stop copying."""
        self._closed.set()
        with self._room:
            self._room.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _copy_all(self, paths: Sequence[Path]) -> None:
        for path in paths:
            remote, copy = self._remotes[path], self._copies[path]
            with self._room:
                while (
                    self._used and self._used + remote.size > self._most_bytes and not self._closed.is_set()
                ):
                    self._room.wait(_POLL_SECONDS)
                self._used += remote.size
            if self._closed.is_set():
                return
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                remote.store.get_file(remote.key, str(path))
            except Exception as error:  # see `find`
                with self._room:
                    self._used -= remote.size
                name = shown(remote.key if "://" in remote.key else f"{path.relative_to(self._folder)}")
                copy.error = f"{name}: cannot be read ({_reason(error, remote.url)})"
            copy.is_there.set()


def _is_video(key: str) -> bool:
    path = PurePosixPath(key)
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


@contextmanager
def scratch_folder(most_bytes: int) -> Iterator[Scratch]:
    """Yield a scratch folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="tsm-scratch-") as name:
        scratch = Scratch(Path(name), most_bytes)
        try:
            yield scratch
        finally:
            scratch.close()


@contextmanager
def remote_output(url: str, *, resume: bool) -> Iterator[str]:
    """Yield a local path to write to, whose files are sent to an address during the run and at the end.

    If the run resumes, the folder is first copied here. The store has no lock: users must avoid two runs that
    write to one folder.

    Raises:
        UsageError: the address cannot be written.
        RunError: a file could not be written at the end.
    """
    store, target = _open_store(url)
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
            raise UsageError(f"--output {shown(url)}: cannot be written ({_reason(error, url)})") from error
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
            raise RunError(f"cannot write {shown(self._url)} ({_reason(error, self._url)})") from error

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
