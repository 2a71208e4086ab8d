"""A bundle's plan, rebuilt on this machine from the ONNX file beside it."""

from __future__ import annotations

from typing import Any

import msgspec

from tsm_runtime.backends.tensorrt.build import BuiltPlan, build_plan
from tsm_runtime.backends.tensorrt.build_options import for_pictures, options_of
from tsm_runtime.backends.tensorrt.library import (
    Library,
    import_library,
    library_logger,
    listening,
    parser_words,
)
from tsm_runtime.backends.tensorrt.network import NO_FOLDER
from tsm_runtime.backends.tensorrt.progress import BuildProgress
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.manifest import MANIFEST, EngineInfo, ModelFile, encode_manifest, sha256
from tsm_runtime.errors import BundleError
from tsm_runtime.files import write_whole
from tsm_runtime.video.preprocess import PREPROCESS_MODEL


def rebuild_plan(
    bundle: Bundle, name: str, *, progress: BuildProgress | None = None, device: int = 0
) -> BuiltPlan:
    """Build one of a bundle's plans for this machine and the installed version; nothing is written.

    Args:
        bundle: with the plan's entry and the ONNX file that it was built from.
        name: of the plan, `model.fp16.plan` for one. Its file may be missing.
        progress: as of `build_plan`.
        device: number of the GPU.

    Raises:
        BundleError: there is no such plan, or its ONNX file is missing or altered.
        BackendError, CheckError, KeyboardInterrupt: as of `build_plan`.
    """
    engine, options = _engine(bundle, name), options_of(_engine(bundle, name), device)
    return build_plan(
        source_graph(bundle, name),
        for_pictures(options) if bundle.manifest.files[name].kind == "preprocess" else options,
        library=engine.library,
        precision=bundle.manifest.files[name].precision,
        progress=progress,
    )


def build_picture_plan(
    bundle: Bundle, like: EngineInfo, *, progress: BuildProgress | None = None, device: int = 0
) -> BuiltPlan:
    """Build a plan of a bundle's `preprocess.onnx` for this machine, also of a bundle that has none yet.

    Args:
        bundle: with that file.
        like: of one of its plans of clips, whose library and options are taken.
        progress: as of `build_plan`.
        device: number of the GPU.

    Raises:
        BundleError: the file is missing or altered.
        BackendError, CheckError, KeyboardInterrupt: as of `build_plan`.
    """
    return build_plan(
        bundle.model_bytes(PREPROCESS_MODEL),
        for_pictures(options_of(like, device)),
        library=like.library,
        precision="fp32",
        progress=progress,
    )


def store_plan(bundle: Bundle, name: str, built: BuiltPlan) -> Bundle:
    """Put a plan in its bundle, which stays the same bundle: in the place of another, or one of pictures.

    Returns:
        The bundle as it is now.

    Raises:
        RunError: the bundle cannot be written.
    """
    entry = msgspec.structs.replace(
        bundle.manifest.files.get(name) or ModelFile(sha256="", precision="fp32", kind="preprocess"),
        sha256=sha256(built.plan),
        engine=built.engine,
        parity=None,
        accuracy=None,
    )
    files = {**bundle.manifest.files, name: entry}
    manifest = msgspec.structs.replace(bundle.manifest, files=files)
    # Broken off between the two, the plan's hash is not the manifest's: it is not loaded, and built again.
    write_whole(bundle.path / name, built.plan)
    write_whole(bundle.path / MANIFEST, encode_manifest(manifest))
    return load_bundle(bundle.path)


def source_graph(bundle: Bundle, name: str) -> bytes:
    """Return the ONNX file that a plan was built from: for rebuilding it, or for its weights.

    Raises:
        BundleError: there is no such plan, or the bundle does not hold that file unaltered.
    """
    wanted = _engine(bundle, name).onnx_sha256.lower()
    for candidate, entry in bundle.manifest.files.items():
        if entry.engine is None and entry.sha256.lower() == wanted:
            return bundle.model_bytes(candidate)
    raise BundleError(
        f"{bundle.path}: holds no longer the ONNX file that {name} was built from; export it again with"
        " tsm-export"
    )


def _engine(bundle: Bundle, name: str) -> EngineInfo:
    entry = bundle.manifest.files.get(name)
    if entry is None or entry.engine is None:
        plans = ", ".join(key for key, file in bundle.manifest.files.items() if file.engine) or "no plan"
        raise BundleError(f"{bundle.path}: has no plan {name} (it has {plans}); export it with tsm-export")
    return entry.engine


def refit_engine(engine: Any, onnx: bytes, *, library: Library = "tensorrt") -> None:
    """Put the weights of an ONNX file into a deserialised engine, before it gets an execution context.

    Args:
        engine: ICudaEngine of a plan that was built with `BuildOptions(stripped=True)`.
        onnx: the file that the plan was built from (`EngineInfo.onnx_sha256`): the builder has taken
            its values into account, and with others the engine's results are undefined.
        library: whose engine it is.

    Raises:
        BackendError: the engine cannot be refitted, or weights are missing; in the library's own words.
    """
    trt = import_library(library)
    with listening(trt) as heard:
        try:
            refitter = trt.Refitter(engine, library_logger(trt))
        except TypeError as error:  # what the bindings make of a null pointer
            raise heard.error("cannot put weights into this engine") from error
        parser = trt.OnnxParserRefitter(refitter, library_logger(trt))
        if not parser.refit_from_bytes(onnx, NO_FOLDER) or parser.num_errors:
            raise heard.error("does not take the weights of the graph", parser_words(parser))
        missing = refitter.get_missing_weights()
        if missing:
            names = ", ".join(missing[:3])
            raise heard.error("misses weights", f"the graph has {len(missing)} too few ({names})")
        if not refitter.refit_cuda_engine():
            raise heard.error("does not put the weights in")
