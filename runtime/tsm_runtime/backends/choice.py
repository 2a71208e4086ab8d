"""Which model file of a bundle runs, and on what: as asked, or the best that this machine allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tsm_runtime.backends import Backend, open_model
from tsm_runtime.bundle import Bundle
from tsm_runtime.engines.progress import build_bar
from tsm_runtime.engines.rebuild import rebuild_plan, store_plan
from tsm_runtime.errors import BackendError, BundleError
from tsm_runtime.terminal import warn

__all__ = ["BackendName", "BackendRequest", "Precision", "open_requested"]

BackendName = Literal["auto", "onnxruntime", "tensorrt"]
Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendRequest:
    """How a bundle is to run.

    Args:
        backend: `auto` takes a plan where the bundle has one that runs here, else onnxruntime; one that is
            named is taken, or is an error.
        precision: None: fp16 of plans, fp32 on onnxruntime.
        rebuild: build a plan anew that does not fit this machine, and keep it in the bundle.
        num_threads: of onnxruntime; None: all cores.
    """

    backend: BackendName = "auto"
    precision: Precision | None = None
    rebuild: bool = False
    num_threads: int | None = None


def open_requested(bundle: Bundle, request: BackendRequest) -> Backend:
    """Open the model of a bundle that a request means.

    Raises:
        BundleError: the bundle has no such model, or it cannot be used.
        BackendError: what runs it is not installed or finds no GPU.
    """
    plans = _plans(bundle, request.precision or "fp16")
    if request.backend == "tensorrt":
        return _open_first(bundle, plans, request)
    if request.backend == "auto" and plans:
        try:
            return _open_first(bundle, plans, request)
        except (BackendError, BundleError) as error:
            warn(f"onnxruntime runs instead of {plans[0]}: {error}")
    name = f"model.{request.precision or 'fp32'}.onnx"
    return open_model(bundle, name, num_threads=request.num_threads)


def _plans(bundle: Bundle, precision: Precision) -> list[str]:
    """Return the bundle's plans of a precision, those of TensorRT before those of TensorRT for RTX."""
    names = (f"model.{precision}.plan", f"model.{precision}.rtx.plan")
    return [name for name in names if name in bundle.manifest.files]


def _open_first(bundle: Bundle, plans: Sequence[str], request: BackendRequest) -> Backend:
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
            return _open_plan(bundle, name, rebuild=request.rebuild)
        except (BackendError, BundleError) as error:
            errors.append(error)
    raise errors[0]


def _open_plan(bundle: Bundle, name: str, *, rebuild: bool) -> Backend:
    try:
        return open_model(bundle, name)
    except BundleError as error:
        if not rebuild:
            raise
        warn(f"building {name} anew: {error}")
    with build_bar(name) as progress:
        built = rebuild_plan(bundle, name, progress=progress)
    return open_model(store_plan(bundle, name, built), name)
