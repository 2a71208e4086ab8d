"""Local copies of remote videos in a bounded scratch folder."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from tsm_runtime.archive.addresses import NOTHING_THERE, open_store, reason, shown
from tsm_runtime.archive.records import Content, content_of
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.video.finding import MEDIA_SUFFIXES, VIDEO_SUFFIXES, is_named

_POLL_SECONDS = 0.2
_LISTED_AT_ONCE = 16


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

    def find(
        self, urls: Sequence[str], suffixes: Sequence[str] = VIDEO_SUFFIXES
    ) -> list[tuple[Path, list[Path]]]:
        """Return for each address its local folder, and the local paths of its videos.

        Of a folder the files with some suffixes are taken. A missing file is an error when it is copied, as
        one on this machine is when it is read.

        Raises:
            UsageError: an address cannot be listed: no such bucket, no access, expired credentials; or two
                addresses differ only in what is not shown of them.
            BackendError: the package for such addresses is not installed.
        """
        with ThreadPoolExecutor(_LISTED_AT_ONCE, thread_name_prefix="list") as pool:
            return [
                self._register(url, *listed, suffixes)
                for url, listed in zip(urls, pool.map(_list, urls), strict=True)
            ]

    def _register(
        self,
        url: str,
        store: Any,
        path: str,
        found: Mapping[str, Mapping[str, Any]],
        suffixes: Sequence[str] = VIDEO_SUFFIXES,
    ) -> tuple[Path, list[Path]]:
        root = self._folder / f"{url.split('://', 1)[0].lower()}:"
        videos = []
        for key in sorted(found):
            if len(found) > 1 and not is_named(PurePosixPath(key), suffixes):
                continue
            local = root / shown(key).split("://", 1)[-1].lstrip("/")
            remote = _Remote(store, key, url, int(found[key].get("size") or 0))
            if self._remotes.setdefault(local, remote).key != key:
                raise UsageError(
                    f"{shown(url)}: two addresses that differ only behind '?': run them one by one, with --id"
                )
            videos.append(local)
        return root / shown(path).split("://", 1)[-1].strip("/"), videos

    def place(self, url: str) -> Path:
        """Return the local path of one video by its address, without a look at the store."""
        store, key = open_store(url)
        (path,) = self._register(url, store, key, {key: {}})[1]
        return path

    def url(self, path: Path) -> str:
        """Return the address of a remote video, as another process can open it; empty for a local one."""
        remote = self._remotes.get(path)
        return "" if remote is None else str(remote.store.unstrip_protocol(remote.key))

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
        except Exception as error:  # see `Scratch.find`
            raise OSError(reason(error, remote.url)) from error
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
            except Exception as error:  # see `Scratch.find`
                with self._room:
                    self._used -= remote.size
                copy.error = f"{shown(self.url(path))}: cannot be read ({reason(error, remote.url)})"
            copy.is_there.set()


def _list(url: str) -> tuple[Any, str, Mapping[str, Mapping[str, Any]]]:
    """Return the store of an address, the path in it, and the files there with their facts."""
    store, path = open_store(url)
    try:
        if url.lower().startswith("http") or store.isfile(path):
            return store, path, {path: store.info(path)}
        if found := store.find(path, detail=True):
            return store, path, found
        raise FileNotFoundError(path)
    except Exception as error:  # the stores' packages have their own exceptions, with no common base
        why = reason(error, url)
        if why.startswith(NOTHING_THERE) and is_named(PurePosixPath(urlsplit(url).path), MEDIA_SUFFIXES):
            return store, path, {path: {}}
        raise UsageError(f"{shown(url)}: cannot be read ({why})") from error


@contextmanager
def scratch_folder(most_bytes: int) -> Iterator[Scratch]:
    """Yield a scratch folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="tsm-scratch-") as name:
        scratch = Scratch(Path(name), most_bytes)
        try:
            yield scratch
        finally:
            scratch.close()
