"""What a frame costs the online model, beside a T-th of a clip of the same network.

Both are fp32 on onnxruntime's CPU provider, with random weights, which do not change the time. Every round
runs all variants once, in a random order, each over one interval of T frames: `clip` is the clip-wise model
on a batch of N clips, `online` the runtime's scorer with N streams, whose states stay in place, and
`copied` the same with new arrays for the states of every frame. `frame_ms` is the wall time of a frame of
one stream (first quartile, median, third quartile of the rounds), `cpu_ms` its processor time, which other
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

from tsm_export.graphs.from_checkpoint import export_fp32
from tsm_export.graphs.online import export_online
from tsm_runtime.backends.base import Scores
from tsm_runtime.backends.online import FRAME, ONLINE_MODEL, OnlineModel, OnlineScorer, next_name
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.manifest import MANIFEST, Manifest, ModelFile, encode_manifest, sha256
from tsm_runtime.models.choice import open_model
from tsm_runtime.results import BACKGROUND
from tsm_train.config import Config
from tsm_train.samples.clips import Labels
from tsm_train.sections.data import DataConfig
from tsm_train.sections.network import ClipConfig, ModelConfig
from tsm_train.training.checkpoint import Checkpoint, build_model

CLIP_MODEL = "model.fp32.onnx"
LABELS = Labels(("wave", "walk", BACKGROUND), ("hall", "park"))

Clips = npt.NDArray[np.uint8]
Work = Callable[[], Scores]


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
    """Return an untrained checkpoint."""
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
    online, copying = model.scorer(num_streams), CopyingScorer(model, num_streams)
    works: dict[str, Work] = {
        "clip": lambda: clip_wise.infer(clips),
        "online": lambda: score(online, clips),
        "copied": lambda: score(copying, clips),
    }
    first, *others = (work() for work in works.values())
    if not all(np.allclose(first.action, other.action, atol=1e-4) for other in others):
        raise SystemExit("the variants do not say the same: their times mean nothing")
    return works


class CopyingScorer:
    """The runtime's scorer as it would be without binding: it keeps the arrays that come back."""

    def __init__(self, model: OnlineModel, num_streams: int) -> None:
        self.model = model
        self.expected = (num_streams, model.size, model.size, 3)
        shapes = model.state_shapes.items()
        self.begin = {name: np.zeros((num_streams, *shape), np.float32) for name, shape in shapes}
        self.outputs = [output.name for output in model.session.get_outputs()]
        self.reset()

    def push(self, frame: Clips) -> Scores:
        """Take the next frame of every stream."""
        if frame.shape != self.expected or frame.dtype != np.uint8:
            raise ValueError(f"expected uint8 {self.expected}, got {frame.dtype} {frame.shape}")
        given = {FRAME: np.ascontiguousarray(frame), **self.states}
        values = dict(zip(self.outputs, self.model.session.run(self.outputs, given), strict=True))
        self.states = {name: values[next_name(name)] for name in self.begin}
        return Scores(values["action_scores"], values["scene_scores"])

    def reset(self) -> None:
        """Begin new clips."""
        self.states = self.begin


def score(scorer: OnlineScorer | CopyingScorer, clips: Clips) -> Scores:
    """Run an interval."""
    scorer.reset()
    for place in range(clips.shape[1]):
        scores = scorer.push(clips[:, place])
    return scores


def measure(work: dict[str, Work], num_streams: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return milliseconds per frame of one stream: [first quartile, median, third quartile]."""
    frames = num_streams * options.frames
    # What follows a large model finds colder caches, so the order changes.
    orders = np.random.default_rng(0).permuted(np.tile([*work], (options.rounds + 1, 1)), axis=1).tolist()
    rounds = [{name: timed(work[name]) for name in order} for order in orders][1:]
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
