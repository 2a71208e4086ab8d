"""What the steps of gpu_day.py share: settings of the day, bundles, videos, and times."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np

from tsm_runtime.backends.onnxruntime_cuda import OnnxruntimeCudaBackend
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.bundle.manifest import MANIFEST, ModelFile, encode_manifest, sha256
from tsm_runtime.video.preprocess import PREPROCESS_MODEL

ROOT = Path(__file__).resolve().parents[1]
REHEARSE = bool(os.environ["GPU_DAY_REHEARSE"])
SCRATCH = Path(os.environ["GPU_DAY_SCRATCH"])
ROUNDS = 3 if REHEARSE else 30


class NotHereError(Exception):
    """What a step needs is not on this machine."""


def require(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NotHereError(f"{module} does not load: {error}") from error


def bundles() -> list[Bundle]:
    """Return the given bundles; none given: the demo model, with a preprocess.onnx."""
    given = [Path(path) for path in os.environ["GPU_DAY_BUNDLES"].split(os.pathsep) if path]
    return [load_bundle(path) for path in given] or [_demo_with_pictures()]


def _demo_with_pictures() -> Bundle:
    folder = SCRATCH / "demo"
    if not folder.exists():
        from tsm_export.graphs.preprocess import preprocess_graph

        shutil.copytree(demo_folder() / "bundle", folder)
        demo = load_bundle(folder)
        pictures = preprocess_graph(demo.manifest.size)
        (folder / PREPROCESS_MODEL).write_bytes(pictures)
        entry = ModelFile(sha256=sha256(pictures), precision="fp32", kind="preprocess")
        files = {**demo.manifest.files, PREPROCESS_MODEL: entry}
        manifest = msgspec.structs.replace(demo.manifest, files=files)
        if REHEARSE:  # the double of onnxruntime has no sessions on the CPU, which the temporal head needs
            files = {name: entry for name, entry in files.items() if not name.startswith("head.")}
            manifest = msgspec.structs.replace(manifest, files=files, temporal_head=None, decoding=None)
        (folder / MANIFEST).write_bytes(encode_manifest(manifest))
    return load_bundle(folder)


@contextlib.contextmanager
def cuda_backend(bundle: Bundle, name: str, *, tf32: bool = False) -> Iterator[OnnxruntimeCudaBackend]:
    if REHEARSE:
        from onnxruntime_double import OnnxruntimeDouble

        sys.modules["onnxruntime"] = OnnxruntimeDouble()
    with OnnxruntimeCudaBackend(bundle, name, tf32=tf32) as backend:
        yield backend


def make_video(codec: str, pixels: str) -> Path:
    """A moving picture, 1080p (rehearsal: small), 120 frames."""
    width, height = (128, 96) if REHEARSE else (1920, 1080)
    path = SCRATCH / f"{codec}.mp4"
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (height, width, 3), np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.options = {"x265-params": "log-level=none"}
        for number in range(120):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, 4 * number, axis=1), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pixels)))
        container.mux(stream.encode())
    return path


def median_seconds(work: Callable[[], object]) -> float:
    for _ in range(3):
        work()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
