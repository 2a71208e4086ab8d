"""A running tsm-review, a browser that shows it, and what is in its truth file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from browser import Browser


class Answer(NamedTuple):
    status: int
    body: Any


class Process:
    """A server in a process of its own, which prints its address first."""

    def __init__(self, module: str, arguments: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def stop(self, with_signal: int = signal.SIGINT) -> int:
        self.process.send_signal(with_signal)
        try:
            return self.process.wait(60)
        finally:
            self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Server(Process):
    """A `tsm-review` process of its own.

    Args:
        arguments: of the command; `--no-browser` is added.
    """

    def __init__(self, *arguments: object, environment: dict[str, str] | None = None) -> None:
        given = [*map(str, arguments), "--no-browser"]
        super().__init__("tsm_serve.commands.review", given, environment or {})
        self.base, _, self.token = self.address.partition("/?token=")
        assert self.token, "it did not start"

    def call(
        self, path: str, body: object = None, *, method: str = "GET", token: str | None = None, **more: Any
    ) -> Answer:
        headers = more.pop("headers", {})
        query = urlencode({"token": self.token if token is None else token, **more})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base}{path}?{query}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.loads(error.read() or b"null"))


StartServer = Callable[..., Server]


class ReviewBrowser(Browser):
    """A browser that shows the review page."""

    def show(self, address: str, **more: Any) -> None:
        self.driver.get("about:blank")
        self.open(address, ready="document.documentElement.dataset.ready", **more)
        self.until("document.getElementById('video').readyState > 1 || !unplayable.hidden")
        self.run("document.activeElement.blur()")

    def keys(self, *keys: str, shift: bool = False, control: bool = False) -> None:
        from selenium.webdriver import ActionChains
        from selenium.webdriver.common.keys import Keys

        held = [key for key, wanted in ((Keys.SHIFT, shift), (Keys.CONTROL, control)) if wanted]
        actions = ActionChains(self.driver)
        for key in held:
            actions.key_down(key)
        actions.send_keys(*keys)
        for key in held:
            actions.key_up(key)
        actions.perform()

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def clock(self) -> float:
        minutes, _, seconds = self.run("return clock.value").rpartition(":")
        return 60 * float(minutes) + float(seconds)

    def step(self, key: str, seconds: float) -> None:
        """Press a key that goes to another frame and wait until its picture is there."""
        self.keys(key)
        self.until(f"clock.value.endsWith('{seconds % 60:06.3f}'.replace(/^0/, ''))")
        self.until("!video.seeking")

    def saved(self) -> None:
        self.until("document.getElementById('save-state').textContent === 'saved'")

    def segments(self) -> list[str]:
        return list(
            self.run("return [...document.querySelectorAll('.segment')].map(e => e.ariaLabel).sort()")
        )


def truth_of(folder: Path, video_id: str = "clip") -> dict[str, Any]:
    """A video's entry in the truth file."""
    entry: dict[str, Any] = json.loads((folder / "ground_truth.json").read_text())["database"][video_id]
    return entry


def spans_of(folder: Path, video_id: str = "clip") -> list[tuple[str, float, float]]:
    return [(a["label"], *a["segment"]) for a in truth_of(folder, video_id)["annotations"]]
