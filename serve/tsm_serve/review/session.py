"""A running review: project, events, server."""

from __future__ import annotations

import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.wording import counted
from tsm_serve.local_server import serve
from tsm_serve.review.app import review_app
from tsm_serve.review.drafting import read_drafts
from tsm_serve.review.hub import Hub
from tsm_serve.review.loop_api import loop_routes
from tsm_serve.review.project import Project, ProjectPlaces, user_name
from tsm_serve.review.training import Training
from tsm_serve.review.videos import videos_root


class Session:
    """All parts of a running `tsm-review`.

    Args:
        places: folder of videos and truth file.
        annotator: name in the truth file; None: the user's.
        train_config: TOML for trainings from the page; None: a small network.

    Raises:
        UsageError: see `Project`.
    """

    def __init__(
        self, places: ProjectPlaces, annotator: str | None, train_config: Path | None = None
    ) -> None:
        self.hub = Hub()
        self.project = Project(places, annotator or user_name(), self.hub.publish)
        self.training = Training(
            self.project.truth,
            videos_root(places.folder),
            places.state / "train",
            self.hub.publish,
            self._take_bundle,
            config=train_config,
        )
        self.token = secrets.token_urlsafe(24)

    def address(self, port: int) -> str:
        """Return the address of the page, with the token."""
        return f"http://127.0.0.1:{port}/?token={self.token}"

    def add_drafts(
        self, model: Path | None, segments: Path | None, options: ReadOptions | None = None
    ) -> None:
        """Read drafts from a file, and let a bundle's model make them.

        Raises:
            UsageError: the file holds no segments.
            BundleError: the bundle cannot be used.
        """
        if segments is not None:
            read_drafts(segments, self.project.drafts, options)
        if model is not None:
            self._take_bundle(model)

    def _take_bundle(self, bundle: Path) -> None:
        """Make drafts with a bundle, first for the videos that are not done."""
        lines = {line["id"]: line["state"] == "done" for line in self.project.list_videos()}
        videos = sorted(self.project.videos.values(), key=lambda video: lines[video.video_id])
        self.project.drafting.begin(bundle, videos)
        self.hub.publish({"kind": "project"})

    def warnings(self) -> list[str]:
        """Return warnings to print before the page opens."""
        about = self.project.describe()
        lines = []
        if about["readOnly"]:
            lines.append(about["readOnly"])
        if about["strangers"]:
            lines.append(
                f"{about['truth']}: {counted(len(about['strangers']), 'video')} in it not in the folder, for"
                f" example {about['strangers'][0]!r}; kept as in the file"
            )
        if about["recovered"]:
            lines.append(f"video {about['recovered']!r}: the last save was completed from the journal")
        return lines

    def run(self, listening: socket.socket, on_start: Callable[[str], None]) -> None:
        """Serve until the process is interrupted; `on_start` gets the page's address."""
        port = listening.getsockname()[1]
        more = loop_routes(self.project, self.training)
        app = review_app(self.project, self.hub, token=self.token, port=port, more=more)
        # A signal first ends the training, which would otherwise go on on its own.
        serve(app, listening, lambda: on_start(self.address(port)), drain=self.training.stop)


def open_browser(address: str) -> None:
    """Open a page in the user's browser, without waiting for it."""
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
