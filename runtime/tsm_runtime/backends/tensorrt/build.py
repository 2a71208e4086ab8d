"""ONNX bytes to a plan: parsed, built, and looked at before it is handed out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tsm_runtime.backends.cuda.gpu import Gpu, find_gpu
from tsm_runtime.backends.tensorrt.build_options import BuildOptions
from tsm_runtime.backends.tensorrt.inspector import (
    Layer,
    Precision,
    count_types,
    described_layers,
    inspect_plan,
    network_layers,
    require_precision,
)
from tsm_runtime.backends.tensorrt.library import Heard, Library, import_library, listening
from tsm_runtime.backends.tensorrt.network import new_builder, optimization_profile, parse_network
from tsm_runtime.backends.tensorrt.progress import BuildProgress, BuildWatch, progress_monitor
from tsm_runtime.backends.tensorrt.timing_cache import (
    attach_timing_cache,
    default_timing_cache,
    keep_timing_cache,
)
from tsm_runtime.bundle.manifest import EngineInfo, sha256
from tsm_runtime.errors import BackendError, UsageError

Evidence = Literal["engine inspector", "builder's log", "graph"]

_ONE_BUILD = threading.Lock()
"""Of one process at a time: its builders share a logger, and two would hear each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltPlan:
    """A plan and what is known of it.

    Args:
        plan: the bytes of a `.plan` file.
        engine: its entry for the manifest.
        evidence: where `engine.layer_types` come from: the engine, loaded again on this machine's GPU; where
            that is not possible, what the builder said of the layers of the engine it made; or, where
            neither could be read, only the graph before it was built.
        num_layers: of the graph after the parser.
        warnings: one line each.
    """

    plan: bytes
    engine: EngineInfo
    evidence: Evidence
    num_layers: int
    warnings: tuple[str, ...] = ()


def build_plan(
    onnx: bytes,
    options: BuildOptions,
    *,
    library: Library = "tensorrt",
    precision: Precision,
    progress: BuildProgress | None = None,
) -> BuiltPlan:
    """Build a plan from an ONNX file whose inputs have the number of clips as their first axis.

    The graph's own types decide what computes in which precision (the network is strongly typed). The
    graph is checked for the requested precision before the build, the plan after it.

    Args:
        onnx: the file; weights outside it are not read.
        options: what the plan is to be.
        library: `tensorrt` builds for this machine's GPU; `tensorrt_rtx` needs none.
        precision: of the graph, as in the manifest.
        progress: receives the progress of the build; an exception of it, like ctrl-C, cancels the build.

    Raises:
        UsageError: an option does not fit the library or the graph.
        BackendError: the library or a GPU is missing, or the library refuses the graph; with its own words.
        CheckError: the graph or the plan does not compute in the requested precision.
        KeyboardInterrupt: ctrl-C, once the library has stopped.
    """
    trt = import_library(library)
    options.require_fit(library)
    gpu = _gpu_for(library)
    cache = None
    if library == "tensorrt" and gpu is not None:
        cache = options.timing_cache or default_timing_cache(str(trt.__version__), gpu)
    watch = BuildWatch(progress)
    with _ONE_BUILD, listening(trt) as heard, watch.catching_interrupts():
        graph, plan, warnings = _build(trt, onnx, options, precision, cache, watch, heard)
        layers, evidence = _layers_of(trt, plan, options, library, gpu, heard) or (graph, "graph")
    watch.raise_stop()
    require_precision(layers, precision, "the plan")
    if evidence == "graph":
        warnings.append("the plan's layers cannot be read here: the data types told are those of the graph")
    return BuiltPlan(
        plan=plan,
        engine=_describe(onnx, layers, options, library, str(trt.__version__), gpu),
        evidence=evidence,
        num_layers=len(graph),
        warnings=tuple(warnings),
    )


def _gpu_for(library: Library) -> Gpu | None:
    try:
        return find_gpu()
    except BackendError as error:
        if library == "tensorrt":
            raise BackendError(
                f"{error}\ntensorrt builds a plan on the GPU that it is for; without one, tensorrt-rtx builds"
                " for RTX cards"
            ) from error
        return None


def _build(
    trt: Any,
    onnx: bytes,
    options: BuildOptions,
    precision: Precision,
    cache: Path | None,
    watch: BuildWatch,
    heard: Heard,
) -> tuple[list[Layer], bytes, list[str]]:
    """Return the graph's layers, the plan, and warnings."""
    builder = new_builder(trt, heard)
    network, parser = parse_network(trt, builder, onnx, heard)
    graph = network_layers(trt, network)
    require_precision(graph, precision, "the graph")
    config = builder_config(trt, builder, options, precision)
    if config.add_optimization_profile(optimization_profile(builder, network, options)) < 0:
        raise heard.error(f"does not take batches {options.batch}")
    config.progress_monitor = monitor = progress_monitor(trt, watch)
    warnings = attach_timing_cache(config, cache) if cache else []
    watch.raise_stop()
    serialized = builder.build_serialized_network(network, config)
    del parser, monitor  # which had to live until here
    watch.raise_stop()
    if serialized is None:
        raise heard.error("builds no stripped plan" if options.stripped else "builds no plan")
    plan = bytes(serialized)
    if cache:
        warnings += keep_timing_cache(config, cache)
    return graph, plan, warnings


def _layers_of(
    trt: Any, plan: bytes, options: BuildOptions, library: Library, gpu: Gpu | None, heard: Heard
) -> tuple[list[Layer], Evidence] | None:
    """Return the plan's layers from the best source there is; None: from none."""
    layers = None
    if gpu is not None:
        layers = inspect_plan(trt, plan, host_code=options.version_compatible)
        if layers is None and library == "tensorrt":
            raise heard.error("does not load the plan that it built")
    if layers:
        return layers, "engine inspector"
    # A plan of TensorRT for RTX may be for other GPUs than the one here, or there is none.
    layers = described_layers(heard.engine_layers)
    return (layers, "builder's log") if layers else None


def _describe(
    onnx: bytes, layers: list[Layer], options: BuildOptions, library: Library, version: str, gpu: Gpu | None
) -> EngineInfo:
    """Return the manifest entry of a plan; for TensorRT for RTX it does not name this GPU."""
    built_on = gpu if library == "tensorrt" else None
    return EngineInfo(
        library=library,
        version=version,
        gpu=built_on.name if built_on else "",
        compute_capabilities=((built_on.compute_capability,) if built_on else options.compute_capabilities),
        batch=options.batch,
        onnx_sha256=sha256(onnx),
        layer_types=count_types(layers),
        version_compatible=options.version_compatible,
        hardware_compatibility=options.hardware_compatibility,
        stripped=options.stripped,
    )


def builder_config(trt: Any, builder: Any, options: BuildOptions, precision: Precision) -> Any:
    """Return the IBuilderConfig of a plan.

    Precision is no setting of it: the graph's own types decide, but for TF32, ten bits of mantissa that
    TensorRT by default takes for float32 in convolutions. A plan called fp32 does without.

    Raises:
        UsageError: the library does not support a requested compute capability.
    """
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector knows names only
    config.builder_optimization_level = options.optimization_level
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.stripped:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
        config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)
    if options.hardware_compatibility != "none":
        levels = trt.HardwareCompatibilityLevel
        config.hardware_compatibility_level = getattr(levels, options.hardware_compatibility.upper())
    if options.compute_capabilities:
        _set_compute_capabilities(trt, config, options.compute_capabilities)
    return config


def _set_compute_capabilities(trt: Any, config: Any, requested: Sequence[str]) -> None:
    known = {
        f"{name[2:-1]}.{name[-1]}": value  # SM120 is 12.0
        for name, value in trt.ComputeCapability.__members__.items()
        if name.startswith("SM")
    }
    for capability in requested:
        if capability not in known:
            raise UsageError(f"compute capability {capability}: tensorrt-rtx builds for {', '.join(known)}")
    config.num_compute_capabilities = len(requested)
    for i, capability in enumerate(requested):
        config.set_compute_capability(known[capability], i)
