"""`tsm-run`'s pipeline against the same model in PyTorch eager mode, on the same video, weights and cores.

The baseline is what a careful engineer writes by hand: PyAV with frame threads, only the sampled frames
converted by one reused reformatter, batches, inference mode. It runs in both memory layouts and with several
batch sizes, and the fastest variant counts. Both sides have their model loaded and are warm; they take turns
(A B A B ...), and `ratio` is the median over the pairs of baseline seconds / tsm-run seconds.

    python benchmarks/baseline_torch.py CHECKPOINT BUNDLE VIDEO
    python benchmarks/baseline_torch.py CHECKPOINT BUNDLE VIDEO --precision int8 --name baseline_torch_int8
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
import torch
from _common import store
from av.video.reformatter import VideoReformatter

from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.models.choice import BackendRequest
from tsm_runtime.models.opening import open_member
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import Result
from tsm_train.model.tsm import Probabilities
from tsm_train.training.checkpoint import Checkpoint, load_checkpoint

_Value = TypeVar("_Value")

BATCH_SIZES = (1, 4, 8)
PAUSE_SECONDS = 0.2
"""Before each turn: threads of the other side may still be waiting for work, awake."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backend", default="auto", help="of tsm-run, as its option")
    parser.add_argument("--precision", help="of tsm-run, as its option")
    parser.add_argument("--batch", type=int, help="of tsm-run, as its option")
    parser.add_argument("--name", default="baseline_torch", help="results/NAME.json")
    return parser.parse_args()


def main() -> None:
    """Choose the baseline's fastest variant, then measure pairs."""
    options = _options()
    torch.set_num_threads(options.threads)
    checkpoint = load_checkpoint(options.checkpoint)
    clip = checkpoint.config.clip
    request = BackendRequest(
        backend=options.backend,
        precision=options.precision,
        num_threads=options.threads,
        parallel_calls=2,
    )
    member = open_member(load_bundle(options.bundle), request)

    variants = baseline_variants(checkpoint, options.video)
    best = min(variants, key=lambda name: variants[name][0])
    _, model, batch = variants[best]
    base_times, ours_times, num_intervals, difference = measure_pairs(
        lambda: baseline(options.video, model, clip, batch),
        lambda: run(options.video, member, Options(batch_size=options.batch)),
        options.pairs,
    )
    ratios = [b / a for a, b in zip(ours_times, base_times, strict=True)]
    store(
        options.name,
        {
            "video": options.video.name,
            "backbone": checkpoint.config.model.backbone,
            "size": clip.size,
            "threads": options.threads,
            "backend": member.backend.name,
            "batch": options.batch or member.backend.best_batch,
            "intervals": num_intervals,
            "baseline_variants_seconds": {name: round(v[0], 3) for name, v in variants.items()},
            "baseline_variant": best,
            "baseline_seconds": [round(s, 3) for s in base_times],
            "tsm_run_seconds": [round(s, 3) for s in ours_times],
            "ratio": round(statistics.median(ratios), 3),
            "ratios": [round(r, 3) for r in ratios],
            "scene_score_difference": round(difference, 7),
        },
    )


def baseline_variants(checkpoint: Checkpoint, video: Path) -> dict[str, tuple[float, Probabilities, int]]:
    """Return the seconds, the model and the batch size of each variant."""
    variants = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        model = Probabilities(checkpoint.model()).eval().to(memory_format=layout)
        for batch in BATCH_SIZES:
            seconds, _ = timed(lambda m=model, n=batch: baseline(video, m, checkpoint.config.clip, n))
            variants[f"{str(layout).removeprefix('torch.')}, batch {batch}"] = (seconds, model, batch)
            print(f"baseline {layout}, batch {batch}: {seconds:.2f} s", flush=True)
    return variants


def measure_pairs(
    base: Callable[[], np.ndarray], ours: Callable[[], Result], pairs: int
) -> tuple[list[float], list[float], int, float]:
    """Return the seconds of both, the number of intervals, and how far the best scene's score lies apart."""
    base_times, ours_times, difference = [], [], 0.0
    for _ in range(pairs):
        base_seconds, scores = timed(base)
        ours_seconds, result = timed(ours)
        base_times.append(base_seconds)
        ours_times.append(ours_seconds)
        if result.num_intervals != len(scores):
            raise SystemExit(f"{result.num_intervals} intervals against {len(scores)}: not the same work")
        if result.scenes:
            top = max(scene.score for scene in result.scenes)
            base_top = float(scores[:, -len(result.scenes) :].mean(0).max())
            difference = max(difference, abs(top - base_top))
    return base_times, ours_times, len(scores), difference


def timed(work: Callable[[], _Value]) -> tuple[float, _Value]:
    """Return wall seconds and result."""
    time.sleep(PAUSE_SECONDS)
    started = time.perf_counter()
    value = work()
    return time.perf_counter() - started, value


@torch.inference_mode()
def baseline(video: Path, model: torch.nn.Module, clip: object, batch: int) -> np.ndarray:
    """Scores per interval, (K, A + S), as a hand-written PyTorch pipeline gets them."""
    scores, waiting = [], []
    for frames in clips(video, clip.interval_seconds, clip.num_frames, clip.size):
        waiting.append(frames)
        if len(waiting) == batch:
            scores.append(torch.cat(model(torch.from_numpy(np.stack(waiting))), 1))
            waiting.clear()
    if waiting:
        scores.append(torch.cat(model(torch.from_numpy(np.stack(waiting))), 1))
    return torch.cat(scores).numpy()


def clips(video: Path, t: float, num_frames: int, size: int) -> Iterator[np.ndarray]:
    """Yield (T, size, size, 3) per whole interval; a frame is converted only if some moment falls on it."""
    reformatter = VideoReformatter()
    taken: list[np.ndarray] = []
    slot, shown, end = 0, None, 0.0
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        zero = None
        for frame in container.decode(stream):
            zero = frame.pts if zero is None else zero
            start = float((frame.pts - zero) * stream.time_base)
            picture = None
            while shown is not None and (slot + 0.5) * t / num_frames + 1e-6 < start:
                if picture is None:
                    picture = to_rgb(reformatter, shown, size)
                taken.append(picture)
                slot += 1
                if len(taken) == num_frames:
                    yield np.stack(taken)
                    taken.clear()
            shown, end = frame, start + float(frame.duration * stream.time_base)
    last = to_rgb(reformatter, shown, size)
    while (slot + 0.5) * t / num_frames < end:
        taken.append(last)
        slot += 1
        if len(taken) == num_frames and (slot // num_frames) * t <= end + 1e-6:
            yield np.stack(taken)
            taken.clear()


def to_rgb(reformatter: VideoReformatter, frame: av.VideoFrame, size: int) -> np.ndarray:
    """Return (size, size, 3)."""
    resized = reformatter.reformat(frame, size, size, "rgb24", interpolation="BILINEAR", threads=1)
    return resized.to_ndarray()


if __name__ == "__main__":
    main()
