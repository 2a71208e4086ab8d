"""Creation of playable copies of videos, one at a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from tsm_runtime.errors import TsmError
from tsm_serve.review.drafting import Publish
from tsm_serve.review.proxy import make_proxy, proxy_path
from tsm_serve.review.videos import ReviewVideo

_PUBLISH_EVERY_SECONDS = 2.0
"""Of the video, between two events of progress."""


@dataclass(frozen=True, slots=True)
class ProxyState:
    """State of a video's copy: ready, or the reason why it is not."""

    ready: bool


class Proxies:
    """Creates copies in threads and returns the finished ones.

    Args:
        publish: gets events of progress, end and failure.
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._running: set[Path] = set()

    def ready(self, video: ReviewVideo) -> Path | None:
        """Return the copy's file, or None where there is none yet."""
        path = proxy_path(video.path)
        return path if path.is_file() else None

    def start(self, video: ReviewVideo) -> ProxyState:
        """Make the copy in a thread unless it is there or being made."""
        target = proxy_path(video.path)
        with self._lock:
            if target.is_file():
                return ProxyState(ready=True)
            if target not in self._running:
                self._running.add(target)
                threading.Thread(target=self._make, args=(video, target), name="proxy", daemon=True).start()
        return ProxyState(ready=False)

    def _make(self, video: ReviewVideo, target: Path) -> None:
        published = -_PUBLISH_EVERY_SECONDS

        def publish_progress(seconds: float) -> None:
            nonlocal published
            if seconds - published >= _PUBLISH_EVERY_SECONDS:
                published = seconds
                self._publish({"kind": "proxy", "id": video.video_id, "reached": seconds})

        event: dict[str, object] = {"kind": "proxy", "id": video.video_id}
        try:
            with self._turn:
                make_proxy(video.path, target, publish_progress)
            event["ready"] = True
        except TsmError as error:
            event["failure"] = str(error)
        except Exception as error:
            event["failure"] = f"{video.path}: {type(error).__name__}: {error}"
        with self._lock:
            self._running.discard(target)
        self._publish(event)
