"""Metrics of a run for Prometheus, and a health check, over HTTP (extra `serve`)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from tsm_runtime.backends.cuda.gpu import gpu_memory_bytes
from tsm_runtime.errors import BackendError, RunError, UsageError
from tsm_runtime.pipeline.meter import Meter
from tsm_runtime.pipeline.run import CaptureOutcome

_STALLED_SECONDS = 600.0
"""A run whose counts do not change for this long is unhealthy."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric.

    Args:
        kind: `counter` or `gauge`.
        name: name of the metric; Prometheus adds `_total` to a counter.
        text: what it counts.
        value: the value.
        stream: name of the stream for a metric of each stream; empty: the metric has one value.
    """

    kind: str
    name: str
    text: str
    value: float
    stream: str = ""


class Monitored(Protocol):
    """What `serving` serves."""

    def samples(self) -> Sequence[Sample]:
        """Return the values of all metrics now."""

    def health(self) -> Mapping[str, object]:
        """Return the body of /healthz; its `healthy` decides between the codes 200 and 503."""


@dataclass(slots=True)
class RunMetrics:
    """Counts of a run on files.

    Args:
        meter: meter of the pipeline.
        num_videos: number of videos of the run.
    """

    meter: Meter = field(default_factory=Meter)
    num_videos: int = 0
    num_done: int = 0
    num_failed: int = 0
    num_segments: int = 0
    num_corrupt_frames: int = 0
    video_seconds: float = 0.0
    _seen: tuple[int, ...] = ()
    _moved: float = field(default_factory=time.monotonic)

    def take(self, outcome: CaptureOutcome, *, is_kept: bool) -> None:
        """Count the outcome of a video."""
        if outcome.result is None or not is_kept:
            self.num_failed += 1
            return
        self.num_done += 1
        self.num_segments += len(outcome.result.segments)
        self.num_corrupt_frames += outcome.result.corrupt_frames
        self.video_seconds += outcome.result.duration_seconds

    def samples(self) -> list[Sample]:
        """Return the value of each metric."""
        meter = self.meter
        rows: list[tuple[str, str, str, float]] = [
            ("gauge", "tsm_videos", "videos of this run", self.num_videos),
            ("counter", "tsm_videos_done", "videos whose result is written", self.num_done),
            ("counter", "tsm_videos_failed", "videos without a result", self.num_failed),
            ("counter", "tsm_video_seconds", "length of the videos that are done", self.video_seconds),
            ("counter", "tsm_segments", "segments found", self.num_segments),
            ("counter", "tsm_frames", "frames decoded", meter.num_frames),
            ("counter", "tsm_frames_corrupt", "frames that did not decode", self.num_corrupt_frames),
            ("counter", "tsm_clips", "clips scored, once for each model", meter.num_clips),
            (
                "counter",
                "tsm_decoding_wait_seconds",
                "time spent on waiting for clips",
                meter.decoding_wait_seconds,
            ),
            (
                "counter",
                "tsm_scoring_wait_seconds",
                "time spent on waiting for models",
                meter.scoring_wait_seconds,
            ),
            ("gauge", "tsm_queue_depth", "decoded batches that wait for a model", meter.queue_depth()),
        ]
        memory = gpu_memory_bytes()
        if memory is not None:
            rows.append(("gauge", "tsm_gpu_memory_used_bytes", "GPU memory in use, by all processes", memory))
        return [Sample(*row) for row in rows]

    def health(self) -> dict[str, object]:
        """Return whether the run makes progress, and how far it is."""
        now = (self.num_done, self.num_failed, self.meter.num_clips)
        if now != self._seen:
            self._seen, self._moved = now, time.monotonic()
        still = time.monotonic() - self._moved
        return {
            "healthy": still < _STALLED_SECONDS,
            "videos": self.num_videos,
            "done": self.num_done,
            "failed": self.num_failed,
            "seconds_without_progress": round(still, 1),
        }


class _Collector:
    """Provides samples to prometheus_client on request."""

    def __init__(self, source: Monitored, core: Any) -> None:
        self._source, self._core = source, core

    def collect(self) -> Iterator[Any]:
        families: dict[str, Any] = {}
        for sample in self._source.samples():
            if sample.name not in families:
                families[sample.name] = self._family(sample)
            families[sample.name].add_metric([sample.stream] if sample.stream else [], sample.value)
        yield from families.values()

    def _family(self, sample: Sample) -> Any:
        counters, gauges = self._core.CounterMetricFamily, self._core.GaugeMetricFamily
        family = counters if sample.kind == "counter" else gauges
        return family(sample.name, sample.text, labels=["stream"] if sample.stream else [])


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of `PORT` or `HOST:PORT`; without a host only this machine can connect.

    >>> parse_address("9400"), parse_address("0.0.0.0:9400")
    (('127.0.0.1', 9400), ('0.0.0.0', 9400))

    Raises:
        UsageError: the text has no valid port.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--metrics {text}: expected PORT or HOST:PORT, as 9400 or 0.0.0.0:9400")
    return host.strip("[]") or "127.0.0.1", int(port)


@contextmanager
def serving_if(source: Monitored, address: str | None) -> Iterator[None]:
    """Serve a source at the address of the option `--metrics`; None: do not serve it."""
    if address is None:
        yield
        return
    with serving(source, parse_address(address)):
        yield


@contextmanager
def serving(source: Monitored, address: tuple[str, int]) -> Iterator[int]:
    """Serve /metrics and /healthz of a source while the block runs; yield the port.

    Args:
        source: values and health, read at each request.
        address: host and port; 0 takes a free port.

    Raises:
        BackendError: prometheus_client is not installed.
        RunError: the port is taken.
    """
    try:
        import prometheus_client
        import prometheus_client.core
    except ImportError as error:
        raise BackendError("--metrics needs prometheus_client: pip install 'tsm-tal[serve]'") from error
    registry = prometheus_client.CollectorRegistry()
    registry.register(_Collector(source, prometheus_client.core))
    handler = _handler(source, lambda: prometheus_client.generate_latest(registry))
    try:
        server = ThreadingHTTPServer(address, handler)
    except OSError as error:
        raise RunError(
            f"--metrics {address[0]}:{address[1]}: cannot listen there ({error.strerror})"
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(source: Monitored, latest: Any) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that the base class calls
            if self.path == "/metrics":
                self._answer(200, "text/plain; version=0.0.4; charset=utf-8", latest())
            elif self.path == "/healthz":
                health = source.health()
                body = json.dumps(health).encode() + b"\n"
                self._answer(200 if health["healthy"] else 503, "application/json", body)
            else:
                self._answer(404, "text/plain", b"there are /metrics and /healthz\n")

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Requests are not logged."""

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
