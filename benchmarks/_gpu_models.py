"""Steps of gpu_day.py about the models: clips per second, memory, whole runs, PyTorch, and plans."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _gpu_common import REHEARSE, NotHereError, bundles, cuda_backend, make_video, median_seconds, require

from tsm_runtime.backends.cuda.gpu import gpu_memory_bytes
from tsm_runtime.backends.onnxruntime_cuda import OnnxruntimeCudaBackend
from tsm_runtime.backends.tensorrt.library import Library
from tsm_runtime.bundle.bundle import Bundle

BATCHES = (1, 4) if REHEARSE else (1, 8, 16, 32)
BACKBONES = ("resnext101_64x4d", "resnext101_32x8d", "resnet50", "mobilenet_v2", "efficientnet_lite0")


def speed() -> dict[str, Any]:
    """Clips per second of onnxruntime's CUDA provider: batch, precision, one or two batches in flight.

    Frames in pageable memory, and in page-locked memory as the pipeline has them; fp32 also with TF32.
    """
    found: dict[str, Any] = {}
    for bundle in bundles():
        for name, entry in bundle.manifest.files.items():
            if entry.kind != "clips" or not name.endswith(".onnx") or "int8" in name:
                continue
            for tf32 in (False, True) if entry.precision == "fp32" else (False,):
                precision = "TF32" if tf32 else entry.precision
                with cuda_backend(bundle, name, tf32=tf32) as backend:
                    for batch in BATCHES:
                        key = f"{bundle.path.name} {precision} batch {batch}"
                        found[key] = _clips_per_second(backend, bundle, batch)
    return found


def _clips_per_second(backend: OnnxruntimeCudaBackend, bundle: Bundle, batch: int) -> dict[str, float]:
    manifest = bundle.manifest
    shape = (batch, manifest.num_frames, manifest.size, manifest.size, 3)
    pageable = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    pinned = backend.frame_pool.take(shape)
    pinned[...] = pageable

    def two_in_flight(frames: npt.NDArray[np.uint8]) -> None:
        first, second = backend.submit(frames), backend.submit(frames)
        backend.result(first)
        backend.result(second)

    seconds = {
        "serial": median_seconds(lambda: backend.infer(pageable)),
        "two_in_flight": median_seconds(lambda: two_in_flight(pageable)) / 2,
        "two_in_flight_pinned": median_seconds(lambda: two_in_flight(pinned)) / 2,
    }
    backend.frame_pool.give(pinned)
    return {name: round(batch / each, 1) for name, each in seconds.items()}


def memory() -> dict[str, Any]:
    """MiB of the GPU that a model takes when it is open, and after a batch of each size."""
    before = gpu_memory_bytes()
    if before is None:
        raise NotHereError("NVML does not load")
    found: dict[str, Any] = {}
    for bundle in bundles():
        name = "model.fp16.onnx" if "model.fp16.onnx" in bundle.manifest.files else "model.fp32.onnx"
        manifest = bundle.manifest
        with cuda_backend(bundle, name) as backend:
            found[f"{bundle.path.name} open"] = _mebibytes(before)
            for batch in BATCHES:
                backend.infer(
                    np.zeros((batch, manifest.num_frames, manifest.size, manifest.size, 3), np.uint8)
                )
                found[f"{bundle.path.name} batch {batch}"] = _mebibytes(before)
    return found


def _mebibytes(before: int) -> int:
    return ((gpu_memory_bytes() or before) - before) >> 20


def end_to_end() -> dict[str, Any]:
    """Seconds of tsm-run on a video, decoded on the CPU and by NVDEC, and the GPU's utilisation."""
    video = Path(os.environ["GPU_DAY_VIDEO"] or make_video("libx264", "yuv420p"))
    start = "import sys; from tsm_runtime.commands.run import main; "
    if REHEARSE:
        start += "from onnxruntime_double import OnnxruntimeDouble; "
        start += "sys.modules['onnxruntime'] = OnnxruntimeDouble(); "
    found: dict[str, Any] = {}
    for bundle, hwdec in itertools.product(bundles(), ("none", "cuda")):
        more = ["-m", bundle.path, video, "--hwdec", hwdec, "--quiet"]
        more += ["--backend", "onnxruntime-cuda", "--precision", "fp32"] if REHEARSE else []
        started = time.perf_counter()
        with _utilisation() as trace:
            command = [sys.executable, "-c", f"{start}main()", *map(str, more)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        found[f"{bundle.path.name} --hwdec {hwdec}"] = {
            "seconds": round(time.perf_counter() - started, 2),
            "exit": done.returncode,
            "utilisation": trace,
            "said": done.stderr[-200:],
        }
    return found


@contextlib.contextmanager
def _utilisation() -> Iterator[list[str]]:
    """Percent that the GPU and its decoder are busy, each second; empty without nvidia-smi."""
    trace: list[str] = []
    query = ["nvidia-smi", "--query-gpu=utilization.gpu,utilization.decoder", "--format=csv,noheader,nounits"]
    try:
        process = subprocess.Popen([*query, "-l", "1"], stdout=subprocess.PIPE, text=True)
    except OSError:
        yield trace
        return
    try:
        yield trace
    finally:
        process.terminate()
        trace += process.communicate()[0].splitlines()


def pytorch() -> dict[str, Any]:
    """Clips per second of the same network in PyTorch, eager and compiled, FP16 with channels last."""
    torch = require("torch")
    if not (REHEARSE or torch.cuda.is_available()):
        raise NotHereError("PyTorch finds no GPU")
    from shift_graph import checkpoint

    device, dtype = ("cpu", torch.float32) if REHEARSE else ("cuda", torch.float16)
    backbones, size = (("mobilenet_v2",), 64) if REHEARSE else (("resnext101_64x4d", "resnet50"), 256)
    found: dict[str, Any] = {}
    for backbone, batch in itertools.product(backbones, (1, 2) if REHEARSE else (1, 32)):
        model = checkpoint(backbone, size, 8, shift=True).model().to(device, dtype)
        model = model.to(memory_format=torch.channels_last).eval()
        frames = torch.randint(0, 256, (batch, 8, size, size, 3), dtype=torch.uint8, device=device)
        forms = {"eager": model} if REHEARSE else {"eager": model, "compiled": torch.compile(model)}
        for form, network in forms.items():

            def work(network: Any = network, frames: Any = frames) -> None:
                with torch.inference_mode():
                    network(frames)
                if not REHEARSE:
                    torch.cuda.synchronize()

            found[f"{backbone} {form} batch {batch}"] = round(batch / median_seconds(work), 1)
    return found


def plans() -> dict[str, Any]:
    """Build of every backbone, layers by type, layers in fp32, and seconds."""
    library: Library = "tensorrt_rtx" if REHEARSE else "tensorrt"
    require(library)
    from shift_graph import checkpoint

    from tsm_export.graphs.from_checkpoint import export_fp32
    from tsm_export.graphs.half import to_half
    from tsm_runtime.backends.tensorrt.build import build_plan
    from tsm_runtime.backends.tensorrt.build_options import BuildOptions

    backbones, size = (("mobilenet_v2",), 64) if REHEARSE else (BACKBONES, 256)
    found: dict[str, Any] = {}
    for backbone in backbones:
        half = to_half(export_fp32(checkpoint(backbone, size, 8, shift=True)))
        started = time.perf_counter()
        built = build_plan(half, BuildOptions(), library=library, precision="fp16")
        found[backbone] = {
            "seconds": round(time.perf_counter() - started, 1),
            "types": built.engine.layer_types,
            "fp32_layers": built.engine.fp32_layers,
        }
    return found
