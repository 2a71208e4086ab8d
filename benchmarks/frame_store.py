"""How fast the frame store is filled and read, in frames and clips per second, and what it takes on disk.

For each way of storing: `fill` decodes, resizes and encodes every frame of the videos; `read` takes random
clips of T frames from the store, in one process, without any change of the pictures; `augmented` adds the
crop, the flip and the colours of training; `loaded` is the whole loader with --workers processes. `decoded`
is what a clip would cost without a store: open the video, seek, decode up to the clip's frames, resize them.
The file cache is warm: a disk that is slower than `megabytes_per_second` limits reading to its own speed.
Medians of --runs; the last line is one JSON object.

    python benchmarks/frame_store.py ../shared/data/x360/panoramic
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import store
from torch.utils.data import DataLoader

from tsm_runtime.clips.options import ClipOptions
from tsm_runtime.clips.spec import ClipSpec, frame_indices
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.results import BACKGROUND
from tsm_runtime.video.reader import VideoReader
from tsm_train.config import Config
from tsm_train.data.video import TrainingVideo
from tsm_train.samples.clips import ClipDataset, Labels
from tsm_train.samples.frame_store import FrameStore
from tsm_train.samples.sampling import EpochSampler
from tsm_train.samples.stored_video import StoredVideo
from tsm_train.sections.data import DataConfig
from tsm_train.sections.network import ClipConfig
from tsm_train.sections.training import StoreConfig, TrainConfig

WAYS = {
    "raw": StoreConfig(),
    "jpeg 90": StoreConfig(format="jpeg"),
    "jpeg 95": StoreConfig(format="jpeg", quality=95),
}


def main() -> None:
    """Measure all ways of storing on the videos of a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path, help="folder of videos")
    parser.add_argument("--size", type=int, default=256, help="of the model's pictures")
    parser.add_argument("--interval", type=float, default=0.5)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--name", default="frame_store", help="results/NAME.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    files = sorted(path for path in options.videos.iterdir() if path.is_file())
    videos = [
        TrainingVideo(video_id=p.stem, path=p, capture=p.stem, subset="training", segments=()) for p in files
    ]
    rows = {}
    for name, settings in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = measure(videos, settings, Path(folder), options)
        print(f"{name:8}", "  ".join(f"{key} {value:,.1f}" for key, value in rows[name].items()), flush=True)
    spec = ClipSpec(interval_seconds=options.interval, size=options.size)
    decoded = per_second(lambda: decode_clips(files, spec), len(files), options.runs)
    print(f"decoded  {decoded:,.1f} clips/s", flush=True)
    store(
        options.name,
        {
            "videos": len(files),
            "size": options.size,
            "interval_seconds": options.interval,
            "workers": options.workers,
            "runs": options.runs,
            "decoded_clips_per_second": round(decoded, 1),
            "ways": {name: {k: round(v, 1) for k, v in row.items()} for name, row in rows.items()},
        },
    )


def measure(
    videos: list[TrainingVideo], settings: StoreConfig, folder: Path, options: argparse.Namespace
) -> dict[str, float]:
    """Fill a store and read from it."""
    config = Config(
        name="benchmark",
        data=DataConfig(annotations="none", videos="none", cache=str(folder)),
        clip=ClipConfig(size=options.size, interval_seconds=options.interval),
        train=TrainConfig(batch_size=8, num_workers=options.workers),
        store=settings,
    )
    frames = FrameStore.of(config)
    started = time.perf_counter()
    stored = [(video, frames.add(video.path)) for video in videos]
    seconds = time.perf_counter() - started
    num_frames = sum(len(one.times) for _, one in stored)
    data = ClipDataset(stored, Labels(("action", BACKGROUND), ()), config)
    items = [(0, int(index)) for index in np.random.default_rng(0).integers(0, len(data), options.clips)]
    spec = config.clip_spec
    read = per_second(
        lambda: [read_clip(stored, spec, index) for _, index in items], len(items), options.runs
    )
    num_bytes = sum(path.stat().st_size for path in folder.iterdir())
    return {
        "fill_frames_per_second": num_frames / seconds,
        "kilobytes_per_frame": num_bytes / num_frames / 1000,
        "read_clips_per_second": read,
        "megabytes_per_second": read * spec.num_frames * num_bytes / num_frames / 1e6,
        "augmented_clips_per_second": per_second(
            lambda: [data[item] for item in items], len(items), options.runs
        ),
        "loaded_clips_per_second": loaded_per_second(data, config),
    }


def read_clip(stored: list[tuple[TrainingVideo, StoredVideo]], spec: ClipSpec, index: int) -> Any:
    """Read the frames of an interval of one of the videos."""
    _, video = stored[index % len(stored)]
    last = video.duration_seconds - spec.interval_seconds
    moments = spec.moments(0) + (index * spec.interval_seconds) % max(last, 1e-3)
    return video.read(frame_indices(video.times, moments))


def loaded_per_second(data: ClipDataset, config: Config) -> float:
    """Clips per second of the loader of training, from the second batch on."""
    sampler = EpochSampler(data.classes(), config.train)
    loader = DataLoader(
        data, batch_size=config.train.batch_size, sampler=sampler, num_workers=config.train.num_workers
    )
    count, started = 0, 0.0
    for number, (frames, _, _) in enumerate(loader):
        if number == config.train.num_workers:
            started = time.perf_counter()
        elif number > config.train.num_workers:
            count += len(frames)
    return count / (time.perf_counter() - started)


def decode_clips(files: list[Path], spec: ClipSpec) -> None:
    """Decode one clip from the middle of each video."""
    for path in files:
        with VideoReader(path) as reader:
            middle = (reader.claimed_seconds or 2.0) / 2
            start = middle - middle % spec.interval_seconds
            part = ClipOptions(start_seconds=start, end_seconds=start + spec.interval_seconds)
            list(ClipStream(reader, spec, part))


def per_second(work: Callable[[], object], count: int, runs: int) -> float:
    """Run once to warm up, then return how many of `count` are done per second, median of `runs`."""
    work()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return count / statistics.median(times)


if __name__ == "__main__":
    main()
