"""Latency of segments of a live stream after their end, and the share of the machine in it.

A video is played at its own pace, as a camera gives it, through all of `tsm-live`. `behind_ms` is how
long after the end of an interval its label was reported, as an open segment. This includes the wait for
the frame that begins the next interval, the decoding, and the model. `delay_ms` is the machine's part: from
the arrival of that frame to the line. `segment_behind_ms` is for segments that are over, counted from their
own end: the interval that ends one has to be over itself, so it lies one interval higher. Percentiles are
over all lines of the run; `cpu` is processor time by wall time. The last line is one JSON object.

Overlapping intervals, a window and smoothing make labels wait for what they have to see first. This wait is
reported as `settings_wait_ms` and is a part of `behind_ms`, which then counts a label for each stride.

    python benchmarks/latency.py VIDEO --model BUNDLE --seconds 60
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from _common import store

from tsm_runtime import load, stream
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.live.events import End, LiveSegment, OpenSegment
from tsm_runtime.live.options import LiveOptions
from tsm_runtime.models.member import Overrides
from tsm_runtime.segments.cells import wait_seconds

PERCENTILES = (50, 90, 99, 100)
SETTINGS = ("smoothing", "stride", "window")


def main() -> None:
    """Play, measure, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", nargs="?", default=str(demo_folder() / "video.mp4"))
    parser.add_argument("--model", default=str(demo_folder() / "bundle"))
    parser.add_argument("--seconds", type=float, default=60.0, help="of the video, or all that it has")
    parser.add_argument("--threads", type=int, help="of the model")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"))
    parser.add_argument("--batch", type=int, default=8, help="clips a call at most, when behind")
    parser.add_argument("--online", action="store_true", help="the online model, a frame a call")
    for setting in SETTINGS:
        parser.add_argument(f"--{setting}", type=float, help="seconds, as of tsm-run")
    parser.add_argument("--store", default="latency", help="name of the stored result")
    options = parser.parse_args()
    with load(
        options.model,
        precision=options.precision,
        num_threads=options.threads,
        online=options.online,
        overrides=Overrides(**{f"{setting}_seconds": getattr(options, setting) for setting in SETTINGS}),
    ) as model:
        row = measure(options, model)
        row |= {"backend": model.name, "interval_seconds": model.interval_seconds}
        member = model.member()
        row |= {"settings_wait_ms": round(1e3 * wait_seconds(member.spec, member.rules), 2)}
    store(options.store, {**vars(options), **row})


def measure(options: argparse.Namespace, model: Any) -> dict[str, Any]:
    """Play the video once; return milliseconds by percentile."""
    behind: dict[str, list[float]] = {"behind_ms": [], "segment_behind_ms": [], "delay_ms": []}
    stop = threading.Event()
    live = LiveOptions(show_open=True, batch_size=options.batch)
    wall, cpu = time.perf_counter(), time.process_time()
    end: End | None = None
    for event in stream(options.video, model, live, pace=True, stop=stop):
        if isinstance(event, LiveSegment | OpenSegment) and event.end_wall is not None:
            late = 1e3 * (event.wall - event.end_wall).total_seconds()
            behind["behind_ms" if isinstance(event, OpenSegment) else "segment_behind_ms"].append(late)
            behind["delay_ms"].append(1e3 * event.delay_seconds)
            if event.time >= options.seconds:
                stop.set()
        end = event if isinstance(event, End) else end
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if end is None or not behind["behind_ms"]:
        raise SystemExit("nothing was found in the video: no latency to report")
    return {
        **{name: percentiles(values) for name, values in behind.items()},
        "lines": sum(map(len, behind.values())) // 2,
        "intervals": end.intervals,
        "dropped": end.dropped,
        "cpu": round(cpu / wall, 3),
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return the chosen percentiles."""
    found = np.percentile(values, PERCENTILES) if values else [float("nan")] * len(PERCENTILES)
    return {f"p{p}": round(float(value), 2) for p, value in zip(PERCENTILES, found, strict=True)}


if __name__ == "__main__":
    main()
