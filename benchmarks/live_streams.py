"""How many live streams one process follows: intervals scored and dropped, and the processor time for it.

The same video is played as so many streams, each at its own pace as a camera gives it, through all of
`tsm-live`: the clips of all streams share batches. `dropped` counts intervals that were left out because the
machine was too slow; `delay_ms` is from the arrival of the frame that ends a segment to its line; `cpu` is
processor time by wall time. The last line is one JSON object.

    python benchmarks/live_streams.py VIDEO --streams 8 --seconds 30 --precision int8
"""

from __future__ import annotations

import argparse
import threading
import time

import numpy as np
from _common import store

from tsm_runtime import load
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.live.events import End, LiveSegment
from tsm_runtime.live.options import LiveOptions
from tsm_runtime.live.session import watch_streams
from tsm_runtime.video.sources import find_source


def main() -> None:
    """Play, count, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", nargs="?", default=str(demo_folder() / "video.mp4"))
    parser.add_argument("--model", default=str(demo_folder() / "bundle"))
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30.0, help="of the video, or all that it has")
    parser.add_argument("--threads", type=int, help="of the model")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"))
    parser.add_argument("--batch", type=int, default=8, help="clips a call at most")
    parser.add_argument("--store", default="streams", help="name of the stored result")
    options = parser.parse_args()
    stop = threading.Event()
    timer = threading.Timer(options.seconds, stop.set)
    ends: list[End] = []
    delays: list[float] = []
    with load(options.model, precision=options.precision, num_threads=options.threads) as model:
        sources = {
            f"camera {number}": find_source(options.video, pace=True) for number in range(options.streams)
        }
        begun, cpu = time.perf_counter(), time.process_time()
        timer.start()
        live = LiveOptions(batch_size=options.batch)
        for name, event in watch_streams(sources, model.member(), live, stop=stop):
            if isinstance(event, BaseException):
                raise SystemExit(f"{name}: {event}")
            if isinstance(event, LiveSegment):
                delays.append(event.delay_seconds)
            elif isinstance(event, End):
                ends.append(event)
        wall, used = time.perf_counter() - begun, time.process_time() - cpu
        timer.cancel()
        backend = model.name
    intervals, dropped = sum(end.intervals for end in ends), sum(end.dropped for end in ends)
    rows = {
        "backend": backend,
        "wall_seconds": round(wall, 2),
        "frames": sum(end.frames for end in ends),
        "intervals": intervals,
        "dropped": dropped,
        "dropped_share": round(dropped / max(1, dropped + intervals), 4),
        "segments": len(delays),
        "delay_ms": {f"p{p}": round(1000 * float(np.percentile(delays, p))) for p in (50, 90, 100)}
        if delays
        else {},
        "cpu": round(used / wall, 3),
    }
    print(rows)
    store(options.store, {**vars(options), "rows": rows})


if __name__ == "__main__":
    main()
