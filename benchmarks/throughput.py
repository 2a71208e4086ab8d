"""How fast `tsm-run` is, end to end and per stage, over backends, precisions, batches, models and jobs.

    python benchmarks/throughput.py VIDEO --model BUNDLE                     one model: stages and overlap
    python benchmarks/throughput.py VIDEO --model A --model B --model C      an ensemble in one pass
    python benchmarks/throughput.py VIDEO VIDEO... --model BUNDLE --jobs 1 2 several videos at once
    ... --backend onnxruntime openvino --precision fp32 bf16 int8 --batch 1 2 4   a row for each combination

Everything is done --runs times after a warm-up, models loaded, stages in turns; a row holds the median, the
10th and 90th percentile of the wall seconds and the median of the processor seconds (all threads), for each
stage alone: `decode` reads every frame, `clips` also converts the sampled ones, `model` scores clips that are
in memory, and `whole` is the pipeline. Read
- `hours_per_hour`: hours of video that are done in an hour, from `whole`;
- `against_slower_stage`: what the slower of `clips` (over `jobs`) and `model` takes alone, over `whole`; of
  models on a GPU it is to be 0.9 at least. On a CPU, whose cores both need, it is their sum;
- `overlap`: `whole` over (processor seconds of `clips` + `model`) / cores. 1 is as if nothing ever waited; on
  a CPU it is to be 1.1 at most. Of several models `model` is the sum over them;
- `against_separate`, of several models: `whole` over `clips` + the sum of the models' wall seconds, each
  alone; an ensemble is to cost 1.05 times that at most.
Both ratios are quartiles over rounds, of times from the same round. A combination that a bundle or this
machine does not have is reported and left out. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import resource
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _common import Times, measure_in_turns, num_cores, store

from tsm_runtime.backends.runner import BatchRunner, calling_in_parallel
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.finding import find_bundle
from tsm_runtime.clips.builder import ClipBatch
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.errors import TsmError
from tsm_runtime.models.choice import BackendRequest
from tsm_runtime.models.member import Member
from tsm_runtime.models.opening import closing_members, open_member
from tsm_runtime.pipeline.jobs import slower_stage_seconds
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run_videos
from tsm_runtime.video.finding import VideoInput
from tsm_runtime.video.reader import VideoReader


def main() -> None:
    """Measure every combination, store the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--model", type=Path, action="append", help="bundle; default as tsm-run")
    parser.add_argument("--backend", nargs="+", default=["auto"])
    parser.add_argument("--precision", nargs="+", default=[None], help="default as tsm-run")
    parser.add_argument("--batch", type=int, nargs="+", default=[None], help="default as tsm-run")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, help="of the model")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--name", default="throughput", help="results/NAME.json")
    options = parser.parse_args()
    bundles = [load_bundle(find_bundle(path)[0]) for path in options.model or [None]]
    videos = [VideoInput(path, path.stem) for path in options.videos]
    rows = []
    for backend, precision in itertools.product(options.backend, options.precision):
        try:
            request = BackendRequest(
                backend=backend, precision=precision, num_threads=options.threads, parallel_calls=2
            )
            members = [open_member(bundle, request) for bundle in bundles]
        except TsmError as error:
            print(f"{backend}, {precision}: {error}")
            continue
        with closing_members(members):
            for batch, jobs in itertools.product(options.batch, options.jobs):
                row = measure_row(videos, members, Options(batch_size=batch), jobs, options.runs)
                rows.append({"precision": precision or "default", "batch": batch or "default", **row})
                print(one_line(rows[-1]), flush=True)
    store(
        options.name,
        {
            "videos": [video.path.name for video in videos],
            "models": [describe(bundle) for bundle in bundles],
            "runs": options.runs,
            "rows": rows,
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        },
    )


def measure_row(
    videos: Sequence[VideoInput],
    members: Sequence[Member],
    options: Options,
    jobs: int,
    runs: int,
) -> dict[str, Any]:
    """Return the times of one combination."""
    results = [result for _, result in run_videos(videos, members, options, jobs=jobs)]
    failed = [result for result in results if isinstance(result, TsmError)]
    if failed:
        raise SystemExit(str(failed[0]))
    seconds = sum(result.duration_seconds for result in results)
    times = measure_in_turns(
        {
            "decode": lambda: [read_frames(video.path) for video in videos],
            "clips": lambda: [convert_clips(video, members, options) for video in videos],
            **{f"model {n}": model_work(videos[0], m, options) for n, m in enumerate(members, start=1)},
            "whole": lambda: list(run_videos(videos, members, options, jobs=jobs)),
        },
        runs,
    )
    # Clips of the first video alone are kept in memory; those of others cost as much.
    factor = sum(result.num_intervals for result in results) / results[0].num_intervals
    models = [times.pop(f"model {number}") for number, _ in enumerate(members, start=1)]
    times["model"] = Times(
        [factor * sum(seconds) for seconds in zip(*(model.wall for model in models), strict=True)],
        [factor * sum(seconds) for seconds in zip(*(model.cpu for model in models), strict=True)],
    )
    walls = list(zip(*(times[name].wall for name in ("whole", "clips", "model")), strict=True))
    shares_cores = any(member.backend.device == "cpu" for member in members)
    row = {
        "backend": [member.backend.name for member in members],
        "jobs": jobs,
        "video_seconds": round(seconds, 2),
        "intervals": sum(result.num_intervals for result in results),
        "seconds": {name: times[name].summary() for name in ("decode", "clips", "model", "whole")},
        "hours_per_hour": round(seconds / times["whole"].wall_median, 2),
        "against_slower_stage": _quartiles(
            slower_stage_seconds(decoding=clips, scoring=model, jobs=jobs, shares_cores=shares_cores) / whole
            for whole, clips, model in walls
        ),
        "overlap": _quartiles(
            whole / ((clips + model) / num_cores())
            for whole, clips, model in zip(
                times["whole"].wall, times["clips"].cpu, times["model"].cpu, strict=True
            )
        ),
    }
    if len(members) > 1:
        row["against_separate"] = _quartiles(whole / (clips + model) for whole, clips, model in walls)
    return row


def _quartiles(values: Iterable[float]) -> list[float]:
    return [round(float(value), 3) for value in np.percentile(list(values), (25, 50, 75))]


def model_work(video: VideoInput, member: Member, options: Options) -> Callable[[], None]:
    """Return what scores the clips of a video, which are in memory."""
    batches = read_clips(video, [member], options)
    return lambda: score(member, batches)


def score(member: Member, batches: Sequence[ClipBatch]) -> None:
    """Score batches with as many in flight as the backend takes."""
    with calling_in_parallel([member.backend]) as (backend,):
        runner = BatchRunner(backend)
        for batch in batches:
            runner.submit(batch.frames, lambda _: None)
        runner.finish()


def read_frames(video: Path) -> int:
    """Decode all frames, convert none."""
    with VideoReader(video) as reader:
        return sum(1 for _ in reader.frames())


def read_clips(video: VideoInput, members: Sequence[Member], options: Options) -> list[ClipBatch]:
    """Decode and convert what the models take, and keep it."""
    with VideoReader(video.path) as reader:
        return list(
            ClipStream(reader, [member.spec for member in members], options.clips(options.batch_size or 1))
        )


def convert_clips(video: VideoInput, members: Sequence[Member], options: Options) -> None:
    """Decode and convert what the models take, into memory that is used again, as the pipeline does."""
    memory = {member.spec: member.backend.frame_pool for member in members}
    with VideoReader(video.path) as reader:
        for batch in ClipStream(reader, tuple(memory), options.clips(options.batch_size or 1), memory=memory):
            memory[batch.spec].give(batch.memory)


def describe(bundle: Bundle) -> dict[str, Any]:
    """Return what the times depend on."""
    manifest = bundle.manifest
    return {
        "backbone": manifest.backbone,
        "size": manifest.size,
        "num_frames": manifest.num_frames,
        "interval_seconds": manifest.interval_seconds,
    }


def one_line(row: dict[str, Any]) -> str:
    """Return a row for a person."""
    stages = "  ".join(f"{name} {value['median']:.2f}" for name, value in row["seconds"].items())
    return (
        f"{row['backend'][0]}, batch {row['batch']}, jobs {row['jobs']}: {stages} s,"
        f" {row['hours_per_hour']} h/h, overlap {row['overlap'][1]}"
        + (f", against separate {row['against_separate'][1]}" if "against_separate" in row else "")
    )


if __name__ == "__main__":
    main()
