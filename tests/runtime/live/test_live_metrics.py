"""Metrics and health of a live run."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from entry import command
from fakes import brightness_member
from media import write_levels
from over_http import get, values
from streams import FakeConnection, FakeSource, even, grey_frames, source_of

from tsm_runtime.commands.live import main
from tsm_runtime.errors import VideoError
from tsm_runtime.live import capture
from tsm_runtime.live.metrics import LiveMetrics
from tsm_runtime.live.options import LiveOptions
from tsm_runtime.live.session import watch_streams
from tsm_runtime.live.stream_run import StreamRun, StreamState
from tsm_runtime.outputs.metrics import serving

DARK, GREY, BRIGHT = 20, 128, 235


def test_each_stream_is_counted_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_FIRST_PAUSE_SECONDS", 0.001)
    scene = even([(DARK, 1.0), (BRIGHT, 1.0)])
    back = [FakeConnection(grey_frames(scene), failure="lost"), FakeConnection(grey_frames(scene))]
    sources = {
        "one": source_of(even([(DARK, 1.0), (GREY, 1.0)])),
        "two": FakeSource([VideoError("away"), *back], reconnects=True),
    }
    metrics = LiveMetrics()
    events = watch_streams(sources, brightness_member(), LiveOptions(), monitor=metrics.watch)
    with serving(metrics, ("127.0.0.1", 0)) as port:
        next(events)
        before = values(get(port, "/metrics")[1])
        list(events)
        found = values(get(port, "/metrics")[1])
        health = get(port, "/healthz")
    assert before['tsm_stream_running{stream="two"}'] == 1
    one = {name: value for name, value in found.items() if 'stream="one"' in name}
    assert one == {
        'tsm_frames_total{stream="one"}': 50,
        'tsm_frames_corrupt_total{stream="one"}': 0,
        'tsm_intervals_total{stream="one"}': 4,
        'tsm_intervals_dropped_total{stream="one"}': 0,
        'tsm_segments_total{stream="one"}': 1,
        'tsm_stream_gaps_total{stream="one"}': 0,
        'tsm_stream_reconnects_total{stream="one"}': 0,
        'tsm_queue_depth{stream="one"}': 0,
        'tsm_stream_running{stream="one"}': 0,
    }
    assert found['tsm_stream_reconnects_total{stream="two"}'] == 2
    assert found['tsm_segments_total{stream="two"}'] == 4
    assert health[0] == 200
    assert [each["status"] for each in json.loads(health[1])["streams"]] == ["ended", "ended"]


STATE = StreamState(
    name="a", is_over=False, last_frame=None, frames=0, corrupt=0, reconnects=0, intervals=0, dropped=0,
    segments=0, gaps=0, queued=0,
)  # fmt: skip


class Fixed:
    """A stream with a given state."""

    def __init__(self, **changed: object) -> None:
        self.now = replace(STATE, **changed)  # type: ignore[arg-type]

    def state(self) -> StreamState:
        return self.now


@pytest.mark.parametrize(
    ("streams", "seconds", "healthy"),
    [
        ([{}], 10, True),  # not yet connected
        ([{}], 61, False),
        ([{}, {"name": "b", "last_frame": 60.0}], 61, True),  # one dead stream is not the run's end
        ([{"is_over": True}], 1000, True),
        ([{"last_frame": 990.0, "queued": 3}], 1000, False),  # frames come, and scoring stands still
        ([{"last_frame": 990.0}], 1000, True),
    ],
)
def test_health(
    streams: Sequence[dict[str, object]], seconds: float, healthy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    metrics = LiveMetrics()
    metrics.watch([Fixed(**changed) for changed in streams])  # type: ignore[misc]
    now = seconds
    assert metrics.health()["healthy"] is healthy


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.mark.usefixtures("no_log_left")
def test_the_command_serves_metrics_and_logs_events(
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    pytest.importorskip("onnx")
    port, seen = free_port(), list[tuple[int, str]]()
    watch = LiveMetrics.watch

    def spy(self: LiveMetrics, streams: Sequence[StreamRun]) -> None:
        watch(self, streams)
        seen.append(get(port, "/healthz"))

    monkeypatch.setattr(LiveMetrics, "watch", spy)
    write_levels(tmp_path / "a.mp4", [(DARK, 1.0), (GREY, 1.0)])
    run = command("tsm-live", main, monkeypatch, capfdbinary)
    done = run(tmp_path / "a.mp4", "-m", tiny_bundle, "--metrics", port, "--log-json")
    assert done.code == 0
    ((status, body),) = seen
    assert (status, json.loads(body)["streams"][0]["name"]) == (200, "a")
    logged = [json.loads(line) for line in done.err.splitlines()]
    assert all(line["time"].endswith("+00:00") for line in logged)
    assert [line["message"] for line in logged] == ["stream started", "stream ended"]
    assert (logged[1]["stream"], logged[1]["segments"]) == ("a", 1)
