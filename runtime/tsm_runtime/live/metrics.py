"""Metrics and health of a live run."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tsm_runtime.backends.cuda.gpu import gpu_memory_bytes
from tsm_runtime.live.stream_run import StreamRun, StreamState
from tsm_runtime.outputs.metrics import Sample

_STALLED_SECONDS = 60.0
"""A stream without a frame, or a queue without a scored interval, for this long is stalled."""


class LiveMetrics:
    """Counts of the streams of a live run; see `outputs.metrics.serving`."""

    def __init__(self) -> None:
        self._streams: Sequence[StreamRun] = ()
        self._begun = self._scored_at = time.monotonic()
        self._handled = 0

    def watch(self, streams: Sequence[StreamRun]) -> None:
        """Take the streams of the run."""
        self._streams = streams

    def samples(self) -> list[Sample]:
        """Return the value of each metric for each stream."""
        found = [sample for stream in self._streams for sample in _samples_of(stream.state())]
        memory = gpu_memory_bytes()
        if memory is not None:
            found.append(
                Sample("gauge", "tsm_gpu_memory_used_bytes", "GPU memory in use, by all processes", memory)
            )
        return found

    def health(self) -> dict[str, object]:
        """Return whether the run works: scoring goes on, and one running stream or more has frames.

        A single lost stream is reported, but does not make the run unhealthy: the others go on.
        """
        now, states = time.monotonic(), [stream.state() for stream in self._streams]
        handled = sum(state.intervals + state.dropped for state in states)
        if handled != self._handled or not any(state.queued for state in states):
            self._handled, self._scored_at = handled, now
        silent = {state.name: self._silent_seconds(state, now) for state in states if not state.is_over}
        has_frames = not silent or min(silent.values()) < _STALLED_SECONDS
        return {
            "healthy": has_frames and now - self._scored_at < _STALLED_SECONDS,
            "seconds_without_scoring": round(now - self._scored_at, 1),
            "streams": [
                {
                    "name": state.name,
                    "status": _status(state, silent.get(state.name, 0.0)),
                    "seconds_without_frame": round(self._silent_seconds(state, now), 1),
                    "reconnects": state.reconnects,
                    "dropped": state.dropped,
                }
                for state in states
            ],
        }

    def _silent_seconds(self, state: StreamState, now: float) -> float:
        return now - (self._begun if state.last_frame is None else state.last_frame)


def _status(state: StreamState, silent_seconds: float) -> str:
    if state.is_over:
        return "ended"
    return "no frames" if silent_seconds >= _STALLED_SECONDS else "running"


def _samples_of(state: StreamState) -> list[Sample]:
    counters = {
        "tsm_frames": ("frames decoded", state.frames),
        "tsm_frames_corrupt": ("damaged packets and frames", state.corrupt),
        "tsm_intervals": ("intervals scored", state.intervals),
        "tsm_intervals_dropped": ("intervals dropped, as scoring was too slow", state.dropped),
        "tsm_segments": ("segments found", state.segments),
        "tsm_stream_gaps": ("stretches longer than an interval without a frame", state.gaps),
        "tsm_stream_reconnects": ("connections after a loss", state.reconnects),
    }
    gauges = {
        "tsm_queue_depth": ("items that wait for scoring", state.queued),
        "tsm_stream_running": ("1: the stream runs; 0: it has ended", int(not state.is_over)),
    }
    return [
        Sample(kind, name, text, value, stream=state.name)
        for kind, rows in (("counter", counters), ("gauge", gauges))
        for name, (text, value) in rows.items()
    ]
