"""Plans of a bundle's ONNX files: which libraries are asked, and what each built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tsm_export.onnx_models import OnnxFiles
from tsm_export.request import Engine, ExportRequest
from tsm_runtime.backends.cuda.gpu import find_gpu
from tsm_runtime.backends.tensorrt.build import BuiltPlan, build_plan
from tsm_runtime.backends.tensorrt.build_options import BuildOptions, for_pictures
from tsm_runtime.backends.tensorrt.library import Library, import_library
from tsm_runtime.backends.tensorrt.progress import build_bar
from tsm_runtime.bundle.manifest import ModelFile, sha256
from tsm_runtime.errors import BackendError, CheckError
from tsm_runtime.video.preprocess import PREPROCESS_MODEL, PREPROCESS_PLANS

_LIBRARIES: Mapping[str, Library] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_SUFFIXES: Mapping[Library, str] = {"tensorrt": ".plan", "tensorrt_rtx": ".rtx.plan"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPlan:
    """A plan that was built, or why it was not."""

    name: str
    built: BuiltPlan | None = None
    file: ModelFile | None = None
    problem: BackendError | CheckError | None = None


def plan_libraries(request: ExportRequest) -> list[Library]:
    """Return the libraries that build plans: those asked for, else TensorRT where it and a GPU are there."""
    if request.targets:
        return [_LIBRARIES[target] for target in request.targets if target in _LIBRARIES]
    try:
        import_library("tensorrt")
        find_gpu()
    except BackendError:
        return []
    return ["tensorrt"]


def plans(models: OnnxFiles, request: ExportRequest, libraries: Sequence[Library]) -> Iterator[NewPlan]:
    """Build a plan of each asked precision with each library, and one of `preprocess.onnx`.

    What one library refuses does not stop the others: the problem is told with the plan's name.

    Args:
        models: bytes and entry of each ONNX file of the bundle, by file name.
        request: what was asked.
        libraries: see `plan_libraries`.
    """
    for library in libraries:
        for engine in dict.fromkeys(request.engines):
            onnx, _ = models[f"model.{'int8-trt' if engine == 'int8' else engine}.onnx"]
            yield _plan(f"model.{engine}{_SUFFIXES[library]}", engine, onnx, library, request.build)
        pictures, _ = models[PREPROCESS_MODEL]
        options = for_pictures(request.build)
        yield _plan(PREPROCESS_PLANS[library], "fp32", pictures, library, options, kind="preprocess")


def _plan(
    name: str,
    precision: Engine,
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
