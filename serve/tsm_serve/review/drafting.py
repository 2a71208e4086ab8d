"""A model that makes drafts in a thread of its own, the wanted videos first."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsm_runtime.errors import TsmError, UsageError
from tsm_runtime.formats.options import ReadOptions
from tsm_serve.review.draft_store import DraftStore
from tsm_serve.review.videos import ReviewVideo

_log = logging.getLogger("tsm_runtime")

Publish = Callable[[dict[str, Any]], None]

_PATIENCE_SECONDS = 30.0


class _ClosedError(Exception):
    """The drafting was closed while a model ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftingState:
    """Progress of the drafts; `failed` are messages by video id."""

    model: str
    num_waiting: int
    num_done: int
    current: str
    failed: dict[str, str]


class Drafting:
    """Runs a bundle's model on videos, one after another; `close` ends it within the current video.

    Args:
        store: gets the drafts.
        publish: gets an event per draft.
    """

    def __init__(self, store: DraftStore, publish: Publish) -> None:
        self._store = store
        self._publish = publish
        self._change = threading.Condition()
        self._waiting: deque[ReviewVideo] = deque()
        self._failed: dict[str, str] = {}
        self._num_done = 0
        self._current = self._digest = ""
        self._bundle: Path | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def begin(self, bundle: Path, videos: list[ReviewVideo]) -> None:
        """Make drafts with a bundle, for the videos that have none by it.

        Raises:
            BundleError: the bundle cannot be used.
        """
        from tsm_runtime.bundle.bundle import load_bundle

        digest = load_bundle(bundle).manifest_sha256
        with self._change:
            self._bundle, self._digest = bundle, digest
            self._waiting = deque(video for video in videos if not self._has_draft(video.video_id))
            self._failed, self._num_done = {}, 0
            self._change.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="drafts", daemon=True)
                self._thread.start()

    def want(self, video_id: str) -> None:
        """Put a video at the front of the queue."""
        with self._change:
            for video in self._waiting:
                if video.video_id == video_id:
                    self._waiting.remove(video)
                    self._waiting.appendleft(video)
                    return

    @property
    def bundle(self) -> Path | None:
        """The bundle of the model that makes the drafts."""
        return self._bundle

    def state(self) -> DraftingState:
        """Return the progress of the drafts."""
        with self._change:
            return DraftingState(
                model="" if self._bundle is None else self._bundle.name,
                num_waiting=len(self._waiting),
                num_done=self._num_done,
                current=self._current,
                failed=dict(self._failed),
            )

    def close(self) -> None:
        """Stop, and wait for the end of the thread: the interpreter must not exit while a model runs."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(_PATIENCE_SECONDS)

    def _has_draft(self, video_id: str) -> bool:
        draft = self._store.get(video_id)
        return draft is not None and draft.model == self._digest

    def _next(self) -> tuple[Path, str, ReviewVideo] | None:
        with self._change:
            self._current = ""
            self._change.wait_for(lambda: self._closed or self._waiting)
            if self._closed or self._bundle is None:
                return None
            video = self._waiting.popleft()
            self._current = video.video_id
            return self._bundle, self._digest, video

    def _work(self) -> None:
        from tsm_runtime.api import Model, load

        model: Model | None = None
        opened = ""
        while (job := self._next()) is not None:
            bundle, digest, video = job
            try:
                if model is None or opened != digest:
                    if model is not None:
                        model.close()
                    model, opened = load(bundle), digest
                self._draft(model, digest, video)
            except _ClosedError:
                break
            except TsmError as error:
                self._note_failure(video, str(error))
            except Exception as error:  # one video must not end the drafts of the others
                _log.exception("%s: no draft", video.path)
                self._note_failure(video, f"{type(error).__name__}: {error}")
            self._publish({"kind": "draft", "id": video.video_id})
        if model is not None:
            model.close()

    def _draft(self, model: Any, digest: str, video: ReviewVideo) -> None:
        from tsm_runtime.pipeline.run import run

        result = run(video.path, model.member(), video_id=video.video_id, progress=self._check_open)
        with self._change:
            if digest != self._digest:
                return  # another model took over meanwhile
            self._num_done += 1
        self._store.put(result, model.action_labels, digest)

    def _check_open(self, _reached: float, _claimed: float | None) -> None:
        if self._closed:
            raise _ClosedError

    def _note_failure(self, video: ReviewVideo, message: str) -> None:
        with self._change:
            self._failed[video.video_id] = message


def read_drafts(path: Path, store: DraftStore, options: ReadOptions | None = None) -> None:
    """Take the segments of a file of any format as drafts.

    Args:
        path: the file.
        store: gets the drafts.
        options: for files of other tools.

    Raises:
        UsageError: the file cannot be read.
    """
    from tsm_runtime.formats.read_write import read_segments

    found = read_segments(path, options=options)
    if not found:
        raise UsageError(f"{path}: no segments in it")
    store.add_segments(found, path.name)
