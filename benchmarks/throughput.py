"""How fast `tsm-run` is, end to end and per stage, as multiples of real time.

Each stage is measured alone, so the stages do not add up to the whole: decoding and inference overlap.
`decode` reads every frame, `clips` also converts the sampled ones, `infer` is the model on clips that are in
memory, `merge` makes segments of the scores. `end_to_end` is the pipeline of `tsm-run` with the model loaded.
Medians of --runs repetitions after one warm-up; the last line is one JSON object.

    python benchmarks/throughput.py VIDEO --model BUNDLE
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _common import store

from tsm_runtime.backends.choice import BackendRequest
from tsm_runtime.bundle import load_bundle
from tsm_runtime.clip_stream import ClipStream
from tsm_runtime.clips import ClipBatch
from tsm_runtime.decode import VideoReader
from tsm_runtime.inputs import find_bundle
from tsm_runtime.members import open_member
from tsm_runtime.pipeline import Member, Options, run
from tsm_runtime.segments import IntervalScores, merge_intervals


def main() -> None:
    """Measure one video with one bundle."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", type=Path, help="bundle; default as tsm-run")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--name", default="throughput", help="results/NAME.json")
    options = parser.parse_args()
    bundle = load_bundle(find_bundle(options.model)[0])
    member = open_member(bundle, BackendRequest(num_threads=options.threads))
    settings = Options(batch_size=options.batch)
    result = run(options.video, member, settings)
    stages = measure_stages(options.video, member, settings, options.runs)
    for name, seconds in stages.items():
        print(f"{name:>10}  {seconds:8.3f} s  {result.duration_seconds / seconds:8.1f} x real time")
    store(
        options.name,
        {
            "video": options.video.name,
            "video_seconds": result.duration_seconds,
            "intervals": result.num_intervals,
            "backbone": bundle.manifest.backbone,
            "size": bundle.manifest.size,
            "backend": member.backend.name,
            "batch": options.batch,
            "runs": options.runs,
            "seconds": {name: round(seconds, 4) for name, seconds in stages.items()},
            "times_real_time": {name: round(result.duration_seconds / s, 2) for name, s in stages.items()},
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        },
    )


def measure_stages(video: Path, member: Member, options: Options, runs: int) -> dict[str, float]:
    """Return the median seconds of each stage."""
    batches = read_clips(video, member, options)
    scores = [member.backend.infer(batch.frames) for batch in batches]
    intervals = IntervalScores(
        indices=np.concatenate([batch.indices for batch in batches]),
        action=np.concatenate([score.action for score in scores]),
    )
    t = member.spec.interval_seconds
    return {
        "decode": median_seconds(lambda: read_frames(video), runs),
        "clips": median_seconds(lambda: read_clips(video, member, options), runs),
        "infer": median_seconds(lambda: [member.backend.infer(batch.frames) for batch in batches], runs),
        "merge": median_seconds(lambda: merge_intervals(intervals, member.action_labels, t), runs),
        "end_to_end": median_seconds(lambda: run(video, member, options), runs),
    }


def median_seconds(work: Callable[[], object], runs: int) -> float:
    """Run once to warm up, then return the median wall time of `runs` more."""
    work()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def read_frames(video: Path) -> int:
    """Decode all frames, convert none."""
    with VideoReader(video) as reader:
        return sum(1 for _ in reader.frames())


def read_clips(video: Path, member: Member, options: Options) -> list[ClipBatch]:
    """Decode and convert what the model takes."""
    with VideoReader(video) as reader:
        return list(ClipStream(reader, member.spec, options))


if __name__ == "__main__":
    main()
