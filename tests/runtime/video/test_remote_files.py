"""Video files on a web server, run as streams."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fakes import BrightnessBackend, brightness_member
from media import SMOOTH, write_levels, write_video
from over_http import serving_http

from tsm_runtime.backends.base import Scores
from tsm_runtime.errors import VideoError
from tsm_runtime.live.events import End
from tsm_runtime.live.options import LiveOptions
from tsm_runtime.live.session import watch
from tsm_runtime.video.sources import find_source

FASTSTART = {"movflags": "+faststart"}


class _QuietFiles(SimpleHTTPRequestHandler):
    """Serves files without byte ranges."""

    def log_message(self, *_: object) -> None: ...


@contextmanager
def remote(path: Path) -> Iterator[str]:
    handler = partial(_QuietFiles, directory=str(path.parent))
    with serving_http(handler) as address:
        yield f"{address}/{path.name}"


class _SlowBackend(BrightnessBackend):
    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        time.sleep(0.02)
        return super().infer(frames)


def test_every_interval_of_a_remote_file_is_scored(tmp_path: Path) -> None:
    """It arrives as fast as the network allows, faster than the model scores."""
    path = write_levels(tmp_path / "v.mp4", [(25, 6), (230, 6)], container_options=FASTSTART)
    with remote(path) as address:
        *_, end = watch(find_source(address), replace(brightness_member(), backend=_SlowBackend()))
    assert isinstance(end, End)
    assert (end.intervals, end.dropped, end.complete) == (24, 0, True)


def test_a_remote_mp4_with_its_index_at_the_end_is_refused_at_once(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (100, 240, 320, 3), dtype=np.uint8)
    path = write_video(tmp_path / "v.mp4", noise, options=SMOOTH | {"crf": "30"})
    with (
        remote(path) as address,
        pytest.raises(VideoError, match=r"index at the end .* serve it with byte ranges, or write it"),
    ):
        list(watch(find_source(address), brightness_member(), LiveOptions(reconnect_seconds=600)))
