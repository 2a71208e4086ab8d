"""Selection of the model file and backend: as requested, or the best for this machine."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from tsm_runtime.backends.base import Backend
from tsm_runtime.backends.cuda.gpu import find_gpu
from tsm_runtime.backends.tensorrt.library import Library
from tsm_runtime.backends.tensorrt.plan_names import plans_for_gpu
from tsm_runtime.backends.tensorrt.progress import build_bar
from tsm_runtime.backends.tensorrt.rebuild import rebuild_plan, store_plan
from tsm_runtime.bundle.bundle import CLIP_MODEL, GPU_MODEL, Bundle
from tsm_runtime.errors import BackendError, BundleError, UsageError

_log = logging.getLogger("tsm_runtime")

BackendName = Literal["auto", "onnxruntime", "onnxruntime-cuda", "openvino", "tensorrt"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendRequest:
    """Requested backend and precision of a bundle.

    Args:
        backend: `auto` selects the fastest that the bundle and this machine support; any other value is used
            or raises an error.
        precision: None: fp16 on a GPU where the bundle has it, fp32 on a CPU. bf16 is that of openvino.
        rebuild: rebuild a plan that does not fit this machine, and store it in the bundle.
        num_threads: threads on a CPU; None: all cores.
        parallel_calls: parallel calls of onnxruntime on a CPU; more than one for files, where throughput
            matters and latency does not.
        announce: report which file `auto` selected, on what it runs, and why.
        device: number of the GPU, in CUDA's order.

    Raises:
        UsageError: the backend does not support the precision.
    """

    backend: BackendName = "auto"
    precision: Precision | None = None
    rebuild: bool = False
    num_threads: int | None = None
    parallel_calls: int = 1
    announce: bool = False
    device: int = 0

    def __post_init__(self) -> None:
        if self.precision == "bf16" and self.backend not in ("auto", "openvino"):
            raise UsageError(f"--precision bf16 is for --backend openvino, not {self.backend}")


def open_requested(bundle: Bundle, request: BackendRequest) -> Backend:
    """Open the requested model of a bundle.

    Raises:
        BundleError: the bundle has no such model, or it cannot be used.
        BackendError: the library is not installed or finds no GPU.
    """
    if request.backend == "tensorrt":
        return _open_first(bundle, _plans(bundle, request), request).backend
    if request.backend != "auto":
        return _open_onnx(bundle, request.backend, request).backend
    opened, why = _open_fastest(bundle, request)
    if request.announce:
        _log.warning(f"{bundle.path}: {opened.file} runs on {opened.backend.name} ({why})")
    return opened.backend


@dataclass(frozen=True, slots=True)
class _Opened:
    file: str
    backend: Backend


def _open_fastest(bundle: Bundle, request: BackendRequest) -> tuple[_Opened, str]:
    """Open the fastest backend; return it with the reason for the choice."""
    if request.precision == "bf16":
        return _open_onnx(bundle, "openvino", request), "which alone computes in bf16"
    plans = _plans(bundle, request)
    if plans:
        try:
            return _open_first(bundle, plans, request), "a plan for this GPU"
        except (BackendError, BundleError) as error:
            instead = "onnxruntime runs" if find_spec("onnxruntime") else "another runs"
            _log.warning(f"{instead} instead of {plans[0]}: {error}")
    without_gpu = _without_cuda()
    if request.precision == "int8":
        without_gpu = "int8 files are for CPUs"
    elif _has_cuda():
        try:
            return _open_onnx(bundle, "onnxruntime-cuda", request), _why_cuda(bundle, request)
        except BackendError as error:
            without_gpu = str(error).splitlines()[0]
    engine, why = _cpu_engine(bundle)
    no_plan = "" if plans else "no plan in the bundle; "
    return _open_onnx(bundle, engine, request), f"{no_plan}{without_gpu}; {why}"


def _without_cuda() -> str:
    """Return why the installed onnxruntime has no CUDA; where its two packages collide, with the remedy."""
    from tsm_runtime.backends.onnxruntime_cuda import why_no_cuda
    from tsm_runtime.backends.onnxruntime_module import has_both_packages

    known = "no CUDA in onnxruntime as installed"
    return f"{known}: {why_no_cuda()}" if has_both_packages() else known


def _why_cuda(bundle: Bundle, request: BackendRequest) -> str:
    if request.precision is None and "model.fp16.onnx" not in bundle.manifest.files:
        return "a GPU, no plan for it, and no fp16 file, which is faster: export again with --engine fp16"
    return "a GPU, and no plan for it"


def _has_cuda() -> bool:
    from tsm_runtime.backends.onnxruntime_cuda import has_cuda_provider

    return has_cuda_provider()


def _cpu_engine(bundle: Bundle) -> tuple[Engine, str]:
    """Return the library that runs ONNX files on this CPU, and the reason."""
    if not find_spec("onnxruntime") and find_spec("openvino"):
        return "openvino", "onnxruntime is not installed"
    return "onnxruntime", "on the CPU"


def _open_onnx(bundle: Bundle, engine: Engine, request: BackendRequest) -> _Opened:
    """Open an ONNX file of the requested precision, or of the best precision for the engine."""
    precision = request.precision
    if precision is None:
        on_gpu = engine == "onnxruntime-cuda" and "model.fp16.onnx" in bundle.manifest.files
        precision = "fp16" if on_gpu else "fp32"
    if precision == "int8" and engine == "onnxruntime" and request.announce:
        _announce_int8(bundle)
    name = f"model.{'fp32' if precision == 'bf16' else precision}.onnx"
    if name == CLIP_MODEL and engine == "onnxruntime-cuda" and GPU_MODEL in bundle.manifest.files:
        name = GPU_MODEL
    backend = open_model(
        bundle,
        name,
        engine=engine,
        bf16=precision == "bf16",
        num_threads=request.num_threads,
        parallel_calls=request.parallel_calls,
        device=request.device,
    )
    return _Opened(name, backend)


def _announce_int8(bundle: Bundle) -> None:
    """Warn where INT8 gains less than usual."""
    from tsm_runtime.backends.onnxruntime_module import NO_VNNI, integer_instructions

    if integer_instructions() == NO_VNNI:
        _log.warning(
            f"{bundle.path}: int8 is about 1.9 times as fast as fp32 on this processor, which has no VNNI"
            " (with VNNI: 2 to 3 times); its scores are the same"
        )


def _plans(bundle: Bundle, request: BackendRequest) -> list[str]:
    """Return the bundle's plans of a precision, those of TensorRT before those of TensorRT for RTX.

    Of plans for several kinds of GPU, that for the requested one comes first.
    """
    libraries: tuple[Library, ...] = ("tensorrt", "tensorrt_rtx")
    stem = f"model.{request.precision or 'fp16'}"
    files = bundle.manifest.files
    found = [plans_for_gpu(files, stem, library, "") for library in libraries]
    if any(len(plans) > 1 for plans in found):
        with suppress(BackendError):  # without a GPU, opening a plan says so
            capability = find_gpu(request.device).compute_capability
            found = [plans_for_gpu(files, stem, library, capability) for library in libraries]
    return [name for plans in found for name in plans]


def _open_first(bundle: Bundle, plans: Sequence[str], request: BackendRequest) -> _Opened:
    """Open the first plan that runs here; the error is that of the first."""
    if not plans:
        raise BundleError(
            f"{bundle.path}: has no plan of {request.precision or 'fp16'} (it has"
            f" {', '.join(sorted(bundle.manifest.files))}); build one on this machine: tsm-export --engine"
            f" {request.precision or 'fp16'} --target tensorrt"
        )
    errors: list[BackendError | BundleError] = []
    for name in plans:
        try:
            backend = _open_plan(bundle, name, rebuild=request.rebuild, device=request.device)
            return _Opened(name, backend)
        except (BackendError, BundleError) as error:
            errors.append(error)
    raise errors[0]


def _open_plan(bundle: Bundle, name: str, *, rebuild: bool, device: int) -> Backend:
    try:
        backend = open_model(bundle, name, device=device)
    except BundleError as error:
        if not rebuild:
            raise
        _log.warning(f"building {name} again: {error}")
        with build_bar(name) as progress:
            built = rebuild_plan(bundle, name, progress=progress, device=device)
        for line in built.warnings:
            _log.warning(f"{name}: {line}")
        backend = open_model(store_plan(bundle, name, built), name, device=device)
    for notice in getattr(backend, "notices", ()):
        _log.warning(notice)
    return backend


Engine = Literal["onnxruntime", "onnxruntime-cuda", "openvino"]
"""Libraries that run ONNX files; a plan runs on the library that built it."""


def open_model(
    bundle: Bundle,
    name: str,
    *,
    engine: Engine = "onnxruntime",
    bf16: bool = False,
    num_threads: int | None = None,
    parallel_calls: int = 1,
    device: int = 0,
) -> Backend:
    """Open one model file of a bundle: a plan with TensorRT, an ONNX file with the named engine.

    An online model runs frame by frame and returns the scores of whole clips, like the others.

    Args:
        bundle: bundle with the model.
        name: name of the file.
        engine: runs ONNX files; an online model always runs on onnxruntime on the CPU.
        bf16: compute fp32 in bfloat16, on openvino only.
        num_threads: threads on the CPU; default: all cores that this process may use.
        parallel_calls: see `OnnxruntimeBackend`; ignored by other backends.
        device: number of the GPU, for plans and `onnxruntime-cuda`.

    Raises:
        BundleError: the model is missing or altered, or a plan is for another machine or version.
        BackendError: the library is not installed or finds no GPU.
    """
    if name.endswith(".plan"):
        from tsm_runtime.backends.tensorrt.backend import TensorrtBackend

        return TensorrtBackend(bundle, name, device=device)
    entry = bundle.manifest.files.get(name)
    if entry is not None and entry.kind == "online":
        from tsm_runtime.backends.online import OnlineBackend, OnlineModel

        return OnlineBackend(OnlineModel(bundle, name, num_threads=num_threads))
    if engine == "onnxruntime-cuda":
        from tsm_runtime.backends.onnxruntime_cuda import OnnxruntimeCudaBackend

        return OnnxruntimeCudaBackend(bundle, name, device=device)
    if engine == "openvino":
        from tsm_runtime.backends.openvino import OpenvinoBackend

        return OpenvinoBackend(bundle, name, bf16=bf16, num_threads=num_threads)
    from tsm_runtime.backends.onnxruntime import OnnxruntimeBackend

    return OnnxruntimeBackend(bundle, name, num_threads=num_threads, parallel_calls=parallel_calls)
