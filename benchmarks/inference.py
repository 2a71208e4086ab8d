"""The model alone: clips per second over backends, precisions and batch sizes, without any video.

Combinations take turns (round by round, in a random order), so that what else the machine does meets all of
them; noise goes in, whose content does not change the time. `in_flight` batches are on their way at a time,
as in the pipeline. Read `clips_per_second` and `times_as_fast`: the median over rounds of the first
combination's time per clip by this one's in the same round. A combination that the bundle or this machine
does not have is reported and left out. The last line is one JSON object.

    python benchmarks/inference.py --model BUNDLE --backend onnxruntime openvino --precision fp32 bf16 int8
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _common import store, turns

from tsm_runtime.backends.base import Backend
from tsm_runtime.backends.runner import BatchRunner, calling_in_parallel
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.finding import find_bundle
from tsm_runtime.errors import TsmError
from tsm_runtime.models.choice import BackendRequest
from tsm_runtime.models.member import Member
from tsm_runtime.models.opening import closing_members, open_member


def main() -> None:
    """Measure every combination, store the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="bundle; default as tsm-run")
    parser.add_argument("--backend", nargs="+", default=["onnxruntime"])
    parser.add_argument("--precision", nargs="+", default=["fp32"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clips", type=int, default=8, help="clips of a combination in a round, at least")
    parser.add_argument("--name", default="inference", help="results/NAME.json")
    options = parser.parse_args()
    bundle = load_bundle(find_bundle(options.model)[0])
    members = open_members(bundle, options)
    with closing_members(list(members.values())):
        rows = measure_rows(members, options.batch, options.rounds, options.clips)
    spec = bundle.manifest.clip_spec
    store(
        options.name,
        {
            "backbone": bundle.manifest.backbone,
            "clip": [spec.num_frames, spec.size],
            "rounds": options.rounds,
            "rows": rows,
        },
    )


def open_members(bundle: Bundle, options: argparse.Namespace) -> dict[tuple[str, str], Member]:
    """Open the bundle with each backend and precision, and report those that are not available."""
    members = {}
    for backend, precision in itertools.product(options.backend, options.precision):
        try:
            request = BackendRequest(
                backend=backend, precision=precision, num_threads=options.threads, parallel_calls=2
            )
            members[backend, precision] = open_member(bundle, request)
        except TsmError as error:
            print(f"{backend}, {precision}: {error}")
    if not members:
        raise SystemExit("nothing to measure")
    return members


def measure_rows(
    members: Mapping[tuple[str, str], Member], batch_sizes: Sequence[int], rounds: int, num_clips: int
) -> list[dict[str, Any]]:
    """Return a row for each member and batch size; they take turns."""
    spec = next(iter(members.values())).spec
    shape = (max(batch_sizes), spec.num_frames, spec.size, spec.size, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    combinations = list(itertools.product(members, batch_sizes))
    times: dict[Any, list[float]] = {combination: [] for combination in combinations}
    for engine, batch in turns(combinations, rounds):
        times[engine, batch].append(per_clip(members[engine].backend, noise[:batch], num_clips))
    rows = []
    for (engine, batch), found in times.items():
        ratios = [first / own for first, own in zip(times[combinations[0]], found, strict=True)]
        row = {
            "backend": members[engine].backend.name,
            "precision": engine[1],
            "batch": batch,
            "ms_per_clip": round(1e3 * statistics.median(found), 3),
            "ms_per_clip_p10_p90": [round(1e3 * float(v), 3) for v in np.percentile(found, [10, 90])],
            "clips_per_second": round(1 / statistics.median(found), 2),
            "times_as_fast": round(statistics.median(ratios), 3),
        }
        rows.append(row)
        print(row, flush=True)
    return rows


def per_clip(backend: Backend, frames: np.ndarray, num_clips: int) -> float:
    """Return seconds per clip, after one batch for nothing."""
    backend.infer(frames)
    num_batches = max(backend.in_flight, -(-num_clips // len(frames)))
    with calling_in_parallel([backend]) as (calls,):
        runner = BatchRunner(calls)
        started = time.perf_counter()
        for _ in range(num_batches):
            runner.submit(frames, lambda _: None)
        runner.finish()
    return (time.perf_counter() - started) / (num_batches * len(frames))


if __name__ == "__main__":
    main()
