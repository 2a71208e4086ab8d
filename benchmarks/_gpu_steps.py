"""The steps of gpu_day.py, a process each: `python _gpu_steps.py STEP` prints its results as JSON.

Exit code 5: what the step needs is not on this machine; the last line on standard error says what.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from tsm_runtime.backends.cuda.driver import PrimaryContext
from tsm_runtime.backends.cuda.gpu import find_gpu
from tsm_runtime.backends.onnxruntime_cuda import OnnxruntimeCudaBackend
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.errors import BackendError, TsmError
from tsm_runtime.models.nvdec import Nvdec
from tsm_runtime.video.reader import VideoReader

ROOT = Path(__file__).resolve().parents[1]
REHEARSE = bool(os.environ["GPU_DAY_REHEARSE"])
SCRATCH = Path(os.environ["GPU_DAY_SCRATCH"])
STREAMS = (1, 2) if REHEARSE else (1, 2, 4, 7)
BATCHES = (1, 4) if REHEARSE else (1, 8, 16, 32)
ROUNDS = 3 if REHEARSE else 30
BACKBONES = ("resnext101_64x4d", "resnext101_32x8d", "resnet50", "mobilenet_v2", "efficientnet_lite0")
HELD = 100
"""Frames that are held at a time: more than a decoder has surfaces."""


class NotHereError(Exception):
    """What a step needs is not on this machine."""


def machine() -> dict[str, Any]:
    """GPU and driver."""
    gpu = find_gpu()
    found: dict[str, Any] = {"gpu": gpu.name, "compute_capability": gpu.compute_capability}
    query = [
        "nvidia-smi",
        "--query-gpu=driver_version,memory.total,mig.mode.current",
        "--format=csv,noheader",
    ]
    with contextlib.suppress(OSError):
        found["nvidia_smi"] = subprocess.run(
            query, capture_output=True, text=True, check=False
        ).stdout.strip()
    return found


def memory_pycuda() -> dict[str, Any]:
    """The tests of the TensorRT runner over pycuda."""
    return _device_tests("pycuda")


def memory_bindings() -> dict[str, Any]:
    """The same over cuda.bindings."""
    return _device_tests("bindings")


def _device_tests(library: str) -> dict[str, Any]:
    _require({"pycuda": "pycuda.compiler", "bindings": "cuda.bindings.driver"}[library])
    real = ROOT / "tests" / "runtime" / "backends" / "test_tensorrt_gpu.py"
    tests = ROOT / "tests" / "emulated_gpu" / "checks" / "runner.py" if REHEARSE else real
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", tests, "-k", library]
    given = {**os.environ, "TSM_REQUIRE_GPU": "1"}
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:])
    return {"tests": done.stdout.count("."), "library": library}


def nvdec() -> dict[str, Any]:
    """Codecs, held frames, and frames per second of several streams."""
    if "cuda" not in av.codec.hwaccel.hwdevices_available():
        raise NotHereError("this PyAV was built without CUDA")
    found: dict[str, Any] = {}
    for codec, pixels in (("libx264", "yuv420p"), ("libx265", "yuv420p10le"), ("libsvtav1", "yuv420p")):
        path = _video(codec, pixels)
        try:
            found[codec] = {f"fps_{n}": round(_decode(path, n), 1) for n in STREAMS}
        except TsmError as error:
            found[codec] = {"refused": " ".join(str(error).split())[:200]}
    with Nvdec(PrimaryContext(), {}) as decoder:
        found["held_frames"] = _hold(_video("libx264", "yuv420p"), decoder)
    return found


def _hold(path: Path, decoder: Nvdec) -> int:
    with VideoReader(path, nvdec=decoder) as reader:
        return len([timed.frame for timed in itertools.islice(reader.frames(), HELD)])


def _decode(path: Path, num_streams: int) -> float:
    """Frames per second of some streams that are decoded at the same time."""
    counts = [0] * num_streams
    errors: list[TsmError] = []
    with Nvdec(PrimaryContext(), {}) as decoder:

        def work(number: int) -> None:
            try:
                with VideoReader(path, nvdec=decoder) as reader:
                    counts[number] = sum(1 for _ in reader.frames())
            except TsmError as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(num_streams)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
    if errors:
        raise errors[0]
    return sum(counts) / seconds


def _video(codec: str, pixels: str) -> Path:
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


def pixels() -> dict[str, Any]:
    """Largest and mean distance of pictures drawn on the GPU from those of swscale, in levels of 255."""
    from tsm_runtime.verification.clip_sets import video_clips
    from tsm_runtime.verification.verify import verify

    found: dict[str, Any] = {}
    for bundle in _bundles():
        clips = video_clips(demo_folder() / "video.mp4", bundle.manifest.clip_spec, 4)
        for comparison in verify(bundle, [clips]).comparisons:
            if comparison.pictures is not None:
                found[bundle.path.name] = [comparison.pictures.largest, round(comparison.pictures.mean, 3)]
    if not found:
        raise NotHereError("no bundle has preprocess.onnx")
    return found


def verify() -> dict[str, Any]:
    """tsm-verify of each bundle with everything that is installed."""
    found: dict[str, Any] = {}
    for bundle in _bundles():
        command = [sys.executable, "-c", "from tsm_runtime.commands.verify import main; main()"]
        more = [bundle.path, "--backend", "all", "--json", "--no-write", "--quiet"]
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        report = json.loads(done.stdout or "{}")
        found[bundle.path.name] = {
            "exit": done.returncode,
            "compared": report.get("compared"),
            "said": done.stderr[-200:],
        }
    return found


def speed() -> dict[str, Any]:
    """Clips per second of onnxruntime's CUDA provider: batch, precision, one or two batches in flight."""
    found: dict[str, Any] = {}
    for bundle in _bundles():
        for name, entry in bundle.manifest.files.items():
            if entry.kind != "clips" or not name.endswith(".onnx") or "int8" in name:
                continue
            with _cuda_backend(bundle, name) as backend:
                for batch in BATCHES:
                    key = f"{bundle.path.name} {entry.precision} batch {batch}"
                    found[key] = _clips_per_second(backend, bundle, batch)
    return found


def _clips_per_second(backend: OnnxruntimeCudaBackend, bundle: Bundle, batch: int) -> dict[str, float]:
    manifest = bundle.manifest
    shape = (batch, manifest.num_frames, manifest.size, manifest.size, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def two_in_flight() -> None:
        first, second = backend.submit(frames), backend.submit(frames)
        backend.result(first)
        backend.result(second)

    serial, overlapped = _median(lambda: backend.infer(frames)), _median(two_in_flight) / 2
    return {"serial": round(batch / serial, 1), "two_in_flight": round(batch / overlapped, 1)}


def _median(work: Callable[[], object]) -> float:
    for _ in range(3):
        work()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def end_to_end() -> dict[str, Any]:
    """Seconds of tsm-run on one video, decoded on the CPU and by NVDEC, and the GPU's utilisation."""
    if REHEARSE:
        raise NotHereError("tsm-run needs a real model on a real GPU")
    video = Path(os.environ["GPU_DAY_VIDEO"] or _video("libx264", "yuv420p"))
    found: dict[str, Any] = {}
    for bundle, hwdec in itertools.product(_bundles(), ("none", "cuda")):
        command = [sys.executable, "-c", "from tsm_runtime.commands.run import main; main()"]
        started = time.perf_counter()
        with _utilisation() as trace:
            more = ["-m", bundle.path, video, "--hwdec", hwdec, "--quiet"]
            done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
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
    torch = _require("torch")
    if not torch.cuda.is_available():
        raise NotHereError("PyTorch finds no GPU")
    from shift_graph import checkpoint

    found: dict[str, Any] = {}
    for backbone, batch in itertools.product(("resnext101_64x4d", "resnet50"), (1, 32)):
        model = checkpoint(backbone, 256, 8, shift=True).model().cuda().half()
        model = model.to(memory_format=torch.channels_last)
        frames = torch.randint(0, 256, (batch, 8, 256, 256, 3), dtype=torch.uint8, device="cuda")
        for form, network in (("eager", model), ("compiled", torch.compile(model))):

            def work(network: Any = network, frames: Any = frames) -> None:
                with torch.inference_mode():
                    network(frames)
                torch.cuda.synchronize()

            found[f"{backbone} {form} batch {batch}"] = round(batch / _median(work), 1)
    return found


def plans() -> dict[str, Any]:
    """Build of every backbone with TensorRT, layers by type, and seconds."""
    _require("tensorrt")
    from shift_graph import checkpoint

    from tsm_export.graphs.from_checkpoint import export_fp32
    from tsm_export.graphs.half import to_half
    from tsm_runtime.backends.tensorrt.build import build_plan
    from tsm_runtime.backends.tensorrt.build_options import BuildOptions

    found: dict[str, Any] = {}
    for backbone in (
        "resnext101_64x4d",
        "resnext101_32x8d",
        "resnet50",
        "mobilenet_v2",
        "efficientnet_lite0",
    ):
        half = to_half(export_fp32(checkpoint(backbone, 256, 8, shift=True)))
        started = time.perf_counter()
        built = build_plan(half, BuildOptions(), precision="fp16")
        seconds = round(time.perf_counter() - started, 1)
        found[backbone] = {"seconds": seconds, "types": built.engine.layer_types}
    return found


def _require(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NotHereError(f"{module} does not load: {error}") from error


def _bundles() -> list[Bundle]:
    given = [Path(path) for path in os.environ["GPU_DAY_BUNDLES"].split(os.pathsep) if path]
    return [load_bundle(path) for path in given or [demo_folder() / "bundle"]]


@contextlib.contextmanager
def _cuda_backend(bundle: Bundle, name: str) -> Iterator[OnnxruntimeCudaBackend]:
    if REHEARSE:
        from onnxruntime_double import OnnxruntimeDouble

        sys.modules["onnxruntime"] = OnnxruntimeDouble()
    with OnnxruntimeCudaBackend(bundle, name) as backend:
        yield backend


STEPS = (
    *(machine, memory_pycuda, memory_bindings, nvdec, pixels, verify),
    *(speed, end_to_end, pytorch, plans),
)


def main(step: str) -> None:
    """Run a step."""
    try:
        results = {function.__name__: function for function in STEPS}[step]()
    except (NotHereError, BackendError) as error:
        print(str(error), file=sys.stderr)
        sys.exit(5)
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
