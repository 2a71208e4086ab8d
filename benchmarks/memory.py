"""Peak memory of `tsm-run` over the length of the video, and the time until the first result.

Videos of --size and of each of --seconds are drawn (moving noise, H.264), then run each in a process of its
own; `peak_mib` is that process's largest resident size. It is to stay flat: read `growth`, the largest over
the smallest. `first_seconds` is the wall time of the whole command on the first interval of the first video,
start-up included (median of --runs). The last line is one JSON object.

    python benchmarks/memory.py --model BUNDLE
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from _common import store

from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.finding import find_bundle

RATE = 25
RUN = """
import sys
sys.argv[0] = "tsm-run"
from tsm_runtime.commands.run import main
try:
    main()
finally:
    lines = open("/proc/self/status").read().splitlines()
    print(next(line.split()[1] for line in lines if "VmHWM" in line), file=sys.stderr)
"""


def main() -> None:
    """Draw, run, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="bundle; default as tsm-run")
    parser.add_argument("--seconds", type=float, nargs="+", default=[10, 60, 300])
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--name", default="memory", help="results/NAME.json")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="of tsm-run, last")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    bundle = find_bundle(options.model)[0]
    t = load_bundle(bundle).manifest.interval_seconds
    with tempfile.TemporaryDirectory() as folder:
        rows, first = [], []
        for number, seconds in enumerate(options.seconds):
            video = draw(Path(folder) / f"v{number}.mp4", seconds, width, height)
            wall, peak = run([str(video), "--model", str(bundle), *options.flags])
            rows.append({"seconds": seconds, "peak_mib": round(peak / 1024, 1), "wall": round(wall, 2)})
            print(rows[-1], flush=True)
            if not first:
                arguments = [str(video), "--model", str(bundle), "--end", str(t), *options.flags]
                first = [run(arguments)[0] for _ in range(options.runs)]
    peaks = [row["peak_mib"] for row in rows]
    store(
        options.name,
        {
            "size": options.size,
            "flags": options.flags,
            "rows": rows,
            "growth": round(max(peaks) / min(peaks), 3),
            "first_seconds": round(statistics.median(first), 3),
        },
    )


def draw(path: Path, seconds: float, width: int, height: int) -> Path:
    """Write a video of noise that moves, so that nothing of it is cheap to decode."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "crf": "35"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for number in range(round(seconds * RATE)):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, 4 * number, axis=1), "rgb24")
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def run(arguments: list[str]) -> tuple[float, int]:
    """Run the command; return wall seconds and peak KiB."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments, "-q", "-o", "-"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stderr)
    return seconds, int(done.stderr.splitlines()[-1])


if __name__ == "__main__":
    main()
