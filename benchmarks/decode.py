"""Cost of decoding: threads by frame, by slice or none, their number, and leaving out unreferenced pictures.

    python benchmarks/decode.py VIDEO [VIDEO...] [--runs 5] [--size 256] [--interval 0.5]

For each video and way of decoding a row with the wall and the processor seconds (all threads of the process)
of the whole file, sampled frames converted as for a model of that size. Read `cpu`: where the model runs on
the same cores it is what decoding takes from it, and wall time hides behind the model; where the model runs
elsewhere, read `wall`. `nonref` lets the decoder leave out pictures that no other refers to: `same_frames`
shows whether a model still gets the same frames. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from _common import measure, store

from tsm_runtime.clips.pool import FramePool
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.video.reader import VideoReader

WAYS: dict[str, tuple[Any, int, Any]] = {
    "none": ("NONE", 1, "DEFAULT"),
    "slice 2": ("SLICE", 2, "DEFAULT"),
    "frame 1": ("FRAME", 1, "DEFAULT"),
    "frame 2": ("FRAME", 2, "DEFAULT"),
    "frame auto": ("FRAME", 0, "DEFAULT"),
    "auto": ("AUTO", 0, "DEFAULT"),
    "none, nonref": ("NONE", 1, "NONREF"),
}
"""Kind of threads, their number (0: FFmpeg's choice), and which pictures are left out."""


def main() -> None:
    """Measure every way on every video, store the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--interval", type=float, default=0.5)
    parser.add_argument("--name", default="decode", help="results/NAME.json")
    options = parser.parse_args()
    spec = ClipSpec(interval_seconds=options.interval, size=options.size)
    rows = [row for video in options.videos for row in measure_video(video, spec, options.runs)]
    store(options.name, {"size": options.size, "interval_seconds": options.interval, "rows": rows})


def measure_video(video: Path, spec: ClipSpec, runs: int) -> list[dict[str, Any]]:
    """Return a row for each way."""
    expected = digest(video, spec, "none")
    rows = []
    for way in WAYS:
        times = measure(partial(read, video, spec, way), runs)
        row = {"video": video.name, "way": way, **times.summary()}
        row["same_frames"] = digest(video, spec, way) == expected
        rows.append(row)
        print(
            f"{video.name:32} {way:14} wall {row['median']:.3f} s  cpu {row['cpu']:.3f} s"
            f"  {'' if row['same_frames'] else 'OTHER FRAMES'}",
            flush=True,
        )
    return rows


def opened(video: Path, way: str) -> VideoReader:
    """Open a video to be decoded in a way."""
    kind, count, left_out = WAYS[way]
    reader = VideoReader(video)
    context = reader._stream.codec_context
    context.thread_type, context.thread_count, context.skip_frame = kind, count, left_out
    return reader


def read(video: Path, spec: ClipSpec, way: str) -> None:
    """Decode all and convert what a model takes, into memory that is used again."""
    memory = FramePool()
    with opened(video, way) as reader:
        for batch in ClipStream(reader, spec, memory={spec: memory}):
            if batch.memory is not None:
                memory.give(batch.memory)


def digest(video: Path, spec: ClipSpec, way: str) -> str:
    """Return a hash of the clips, by which two ways are compared."""
    found = hashlib.sha256()
    with opened(video, way) as reader:
        for batch in ClipStream(reader, spec):
            found.update(batch.frames.tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    main()
