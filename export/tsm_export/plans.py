"""TensorRT plans of a bundle's ONNX files: the libraries that build them, and the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tsm_export.onnx_models import HALF_MODEL, OnnxFiles
from tsm_export.request import ExportRequest, Precision
from tsm_runtime.backends.cuda.gpu import find_gpu
from tsm_runtime.backends.tensorrt.build import BuiltPlan, build_plan
from tsm_runtime.backends.tensorrt.build_options import BuildOptions, for_pictures
from tsm_runtime.backends.tensorrt.library import Library, import_library
from tsm_runtime.backends.tensorrt.plan_names import plan_name
from tsm_runtime.backends.tensorrt.progress import build_bar
from tsm_runtime.bundle.bundle import GPU_MODEL
from tsm_runtime.bundle.manifest import ModelFile, sha256
from tsm_runtime.errors import BackendError, CheckError
from tsm_runtime.video.preprocess import PREPROCESS_MODEL

_LIBRARIES: Mapping[str, Library] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPlan:
    """A plan that was built, or the error that prevented it."""

    name: str
    built: BuiltPlan | None = None
    file: ModelFile | None = None
    problem: BackendError | CheckError | None = None


def plan_libraries(request: ExportRequest) -> list[Library]:
    """Return the libraries that build plans: the requested ones, else TensorRT if it finds a GPU."""
    if request.targets:
        return [_LIBRARIES[target] for target in request.targets if target in _LIBRARIES]
    try:
        import_library("tensorrt")
        find_gpu(request.devices[0])
    except BackendError:
        return []
    return ["tensorrt"]


def plans(models: OnnxFiles, request: ExportRequest, libraries: Sequence[Library]) -> Iterator[NewPlan]:
    """Build a plan of each requested precision with each library, and one of `preprocess.onnx`.

    TensorRT builds them on each kind of GPU (compute capability) among the requested devices. A plan that
    fails does not stop the others: its error is returned with its name.

    Args:
        models: bytes and entry of each ONNX file of the bundle, by file name.
        request: precisions and build options.
        libraries: see `plan_libraries`.
    """
    for library in libraries:
        try:
            kinds = _kinds(request, library)
        except BackendError as problem:
            yield NewPlan(name=f"plans of {library}", problem=problem)
            continue
        for kind, device in kinds.items():
            options = replace(request.build, device=device)
            for precision in _precisions(models, request):
                onnx, _ = models[_source(models, precision)]
                name = plan_name(f"model.{precision}", library, kind)
                yield _plan(name, precision, onnx, library, options)
            pictures, _ = models[PREPROCESS_MODEL]
            name = plan_name("preprocess", library, kind)
            yield _plan(name, "fp32", pictures, library, for_pictures(options), kind="preprocess")


def _kinds(request: ExportRequest, library: Library) -> dict[str, int]:
    """Return the devices to build on, by their compute capability; empty for the first one."""
    kinds = {"": request.devices[0]}
    if library == "tensorrt_rtx" or len(request.devices) == 1:  # RTX builds for all kinds at once
        return kinds
    seen = {find_gpu(request.devices[0]).compute_capability}
    for device in request.devices[1:]:
        capability = find_gpu(device).compute_capability
        if capability not in seen:
            seen.add(capability)
            kinds[capability] = device
    return kinds


def _precisions(models: OnnxFiles, request: ExportRequest) -> tuple[Precision, ...]:
    """Return the precisions of plans: by default the one that a GPU runs."""
    default: Precision = "fp16" if HALF_MODEL in models else "fp32"
    return tuple(dict.fromkeys(request.precisions)) or (default,)


def _source(models: OnnxFiles, precision: Precision) -> str:
    """Return the ONNX file that a plan is built from: the GPU's form where there is one."""
    if precision == "int8":
        return "model.int8-trt.onnx"
    return GPU_MODEL if precision == "fp32" and GPU_MODEL in models else f"model.{precision}.onnx"


def _plan(
    name: str,
    precision: Precision,
    onnx: bytes,
    library: Library,
    options: BuildOptions,
    *,
    kind: Literal["clips", "preprocess"] = "clips",
) -> NewPlan:
    try:
        with build_bar(name) as progress:
            built = build_plan(onnx, options, library=library, precision=precision, progress=progress)
    except (BackendError, CheckError) as problem:
        return NewPlan(name=name, problem=problem)
    file = ModelFile(sha256=sha256(built.plan), precision=precision, kind=kind, engine=built.engine)
    return NewPlan(name=name, built=built, file=file)
