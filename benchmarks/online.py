"""What a frame costs the online model, beside a T-th of a clip of the same network.

Both are fp32 on onnxruntime's CPU provider, with random weights, which do not change the time. Every round
runs all variants once, one after another, each over one interval of T frames: `clip` is the clip-wise model
on a batch of N clips, `online` the runtime's scorer with N streams, whose states stay in place, and `copied`
the same graph through session.run, which makes new states every call. `frame_ms` is the wall time of a frame
of one stream (first quartile, median, third quartile of the rounds), `cpu_ms` its processor time, which other
programs disturb less; the ratios are medians over rounds of a variant's time by that of `clip` in the same
round. The last line is one JSON object.

    python benchmarks/online.py --threads 1
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _common import store

from tsm_export.online_export import export_online
from tsm_export.onnx_export import export_fp32
from tsm_runtime.backends import open_model
from tsm_runtime.backends.online import FRAME, ONLINE_MODEL, OnlineBackend, OnlineModel, next_name
from tsm_runtime.bundle import MANIFEST, Bundle, Manifest, ModelFile, encode_manifest, load_bundle, sha256
from tsm_runtime.segments import BACKGROUND
from tsm_train.checkpoint import Checkpoint, build_model
from tsm_train.clip_data import Labels
from tsm_train.config import ClipConfig, Config, DataConfig, ModelConfig

CLIP_MODEL = "model.fp32.onnx"
LABELS = Labels(("wave", "walk", BACKGROUND), ("hall", "park"))

Clips = npt.NDArray[np.uint8]
Work = Callable[[], object]


def main() -> None:
    """Export, measure, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--frames", type=int, default=8, help="T")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    clip = ClipConfig(num_frames=options.frames, size=options.size)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = write_bundle(Path(scratch), random_checkpoint(options.backbone, clip))
        rows = {
            f"{number} streams": measure(variants(bundle, number, options.threads), number, options)
            for number in options.streams
        }
        states = OnlineModel(bundle).state_shapes.values()
    kept = sum(4 * int(np.prod(shape)) for shape in states)
    store("online", {**vars(options), "state_bytes_per_stream": kept, "rows": rows})


def random_checkpoint(backbone: str, clip: ClipConfig) -> Checkpoint:
    """Return a checkpoint that nobody trained."""
    model = ModelConfig(backbone=backbone, shift_direction="past")
    data = DataConfig(annotations="none", videos="none")
    config = Config(name="random", data=data, model=model, clip=clip)
    torch.manual_seed(0)
    weights = build_model(config, LABELS).state_dict()
    return Checkpoint(config=config, labels=LABELS, epoch=0, metrics={}, weights=weights)


def write_bundle(folder: Path, checkpoint: Checkpoint) -> Bundle:
    """Write a bundle with the clip-wise and the online model."""
    graphs = {CLIP_MODEL: export_fp32(checkpoint), ONLINE_MODEL: export_online(checkpoint)}
    for name, graph in graphs.items():
        (folder / name).write_bytes(graph)
    clip = checkpoint.config.clip
    manifest = Manifest(
        format_version=2,
        action_labels=LABELS.actions,
        scene_labels=LABELS.scenes,
        interval_seconds=clip.interval_seconds,
        num_frames=clip.num_frames,
        size=clip.size,
        backbone=checkpoint.config.model.backbone,
        shift_direction="past",
        files={
            name: ModelFile(
                sha256=sha256(graph), precision="fp32", kind="online" if name == ONLINE_MODEL else "clips"
            )
            for name, graph in graphs.items()
        },
    )
    (folder / MANIFEST).write_bytes(encode_manifest(manifest))
    return load_bundle(folder)


def variants(bundle: Bundle, num_streams: int, num_threads: int) -> dict[str, Work]:
    """Return what to time, all on the same clips."""
    spec = bundle.manifest.clip_spec
    shape = (num_streams, spec.num_frames, spec.size, spec.size, 3)
    clips = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    clip_wise = open_model(bundle, CLIP_MODEL, num_threads=num_threads)
    model = OnlineModel(bundle, num_threads=num_threads)
    online = OnlineBackend(model)
    return {
        "clip": lambda: clip_wise.infer(clips),
        "online": lambda: online.infer(clips),
        "copied": lambda: copied(model, clips),
    }


def copied(model: OnlineModel, clips: Clips) -> dict[str, Any]:
    """Run an interval with new arrays for every state and frame."""
    names = [output.name for output in model.session.get_outputs()]
    states = {k: np.zeros((len(clips), *shape), np.float32) for k, shape in model.state_shapes.items()}
    values: dict[str, Any] = {}
    for place in range(clips.shape[1]):
        frame = np.ascontiguousarray(clips[:, place])
        values = dict(zip(names, model.session.run(names, {FRAME: frame, **states}), strict=True))
        states = {name: values[next_name(name)] for name in states}
    return values


def measure(work: dict[str, Work], num_streams: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return milliseconds per frame of one stream: [first quartile, median, third quartile]."""
    frames = num_streams * options.frames
    rounds = [{name: timed(act) for name, act in work.items()} for _ in range(options.rounds + 1)][1:]
    row: dict[str, Any] = {}
    for name, (place, key) in itertools.product(work, enumerate(("frame_ms", "cpu_ms"))):
        times = [1e3 * took[name][place] / frames for took in rounds]
        row.setdefault(name, {})[key] = [round(value, 3) for value in statistics.quantiles(times, n=4)]
        ratios = [took[name][place] / took["clip"][place] for took in rounds]
        row[name][key.replace("_ms", "_ratio")] = round(statistics.median(ratios), 3)
    print(num_streams, row, flush=True)
    return row


def timed(act: Work) -> tuple[float, float]:
    """Return wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
