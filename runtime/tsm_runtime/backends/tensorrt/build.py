"""ONNX bytes to a plan: parsed, built, and looked at before it is handed out."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tsm_runtime.backends.cuda.driver import PrimaryContext
from tsm_runtime.backends.cuda.gpu import Gpu, find_gpu
from tsm_runtime.backends.tensorrt.build_options import BuildOptions
from tsm_runtime.backends.tensorrt.builder_config import builder_config
from tsm_runtime.backends.tensorrt.float_layers import (
    MOST_REBUILDS,
    alike,
    compute_in_float,
    convolution_groups,
    failing_layers,
)
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
from tsm_runtime.backends.tensorrt.network import new_builder, optimization_profiles, parse_network
from tsm_runtime.backends.tensorrt.progress import BuildProgress, BuildWatch, progress_monitor
from tsm_runtime.backends.tensorrt.timing_cache import (
    attach_timing_cache,
    default_timing_cache,
    keep_timing_cache,
)
from tsm_runtime.bundle.manifest import EngineInfo, sha256
from tsm_runtime.errors import BackendError

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
        description: the builder's own description of the engine's layers, one per line; empty: it gave none.
    """

    plan: bytes
    engine: EngineInfo
    evidence: Evidence
    num_layers: int
    warnings: tuple[str, ...] = ()
    description: str = ""


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
    graph is checked for the requested precision before the build, the plan after it. Layers of an FP16 graph
    for which the library has no FP16 kernel are built in fp32, and listed in the plan's entry.

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
    gpu, watch = _gpu_for(library, options.device), BuildWatch(progress)
    with _ONE_BUILD, listening(trt) as heard, watch.catching_interrupts(), _on_device(options.device):
        cache = _timing_cache(trt, options, gpu) if library == "tensorrt" else None
        built = _Build(
            trt=trt, onnx=onnx, options=options, precision=precision, cache=cache, watch=watch, heard=heard
        ).run()
        layers, evidence = _layers_of(trt, built.plan, options, library, gpu, heard) or (built.graph, "graph")
    watch.raise_stop()
    require_precision(layers, precision, "the plan")
    if evidence == "graph":
        built.warnings.append(
            "the plan's layers cannot be read here: the reported data types are those of the graph"
        )
    return BuiltPlan(
        plan=built.plan,
        engine=_describe(onnx, layers, options, library, str(trt.__version__), gpu, built.fp32_layers),
        evidence=evidence,
        num_layers=len(built.graph),
        warnings=tuple(built.warnings),
        description=heard.engine_layers,
    )


def _timing_cache(trt: Any, options: BuildOptions, gpu: Gpu | None) -> Path | None:
    if gpu is None:
        return None
    return options.timing_cache or default_timing_cache(str(trt.__version__), gpu)


@contextmanager
def _on_device(device: int) -> Iterator[None]:
    """Make another GPU than the first one current, as the builder takes the one that is."""
    if device == 0:
        yield
        return
    with closing(PrimaryContext(device)) as primary, primary.current():
        yield


def _gpu_for(library: Library, device: int) -> Gpu | None:
    try:
        return find_gpu(device)
    except BackendError as error:
        if library == "tensorrt":
            raise BackendError(
                f"{error}\ntensorrt builds a plan on the GPU that it is for; without one, tensorrt-rtx builds"
                " for RTX cards"
            ) from error
        return None


@dataclass(frozen=True, slots=True)
class _Built:
    graph: list[Layer]
    plan: bytes
    warnings: list[str]
    fp32_layers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    """A build, which begins again with layers in fp32 where the library has no FP16 kernel for them."""

    trt: Any
    onnx: bytes
    options: BuildOptions
    precision: Precision
    cache: Path | None
    watch: BuildWatch
    heard: Heard

    def run(self) -> _Built:
        fp32_layers: tuple[str, ...] = ()
        for rebuilds_left in range(MOST_REBUILDS, -1, -1):
            built = self._try(fp32_layers)
            if isinstance(built, _Built):
                return built
            failing = [name for name in built if name not in fp32_layers]
            if self.precision != "fp16" or self.options.stripped or not failing or not rebuilds_left:
                break
            fp32_layers += tuple(failing)
            self.heard.errors.clear()
        raise self.heard.error("builds no stripped plan" if self.options.stripped else "builds no plan")

    def _try(self, fp32_layers: Sequence[str]) -> _Built | list[str]:
        """Return the plan, or the layers that have no kernel."""
        builder = new_builder(self.trt, self.heard)
        network, parser = parse_network(self.trt, builder, self.onnx, self.heard)
        graph = network_layers(self.trt, network)
        require_precision(graph, self.precision, "the graph")
        names = [network.get_layer(i).name for i in range(network.num_layers)]
        groups = convolution_groups(self.trt, network) if self.precision == "fp16" else {}
        changed, weights = compute_in_float(self.trt, network, fp32_layers)
        config = builder_config(self.trt, builder, self.options, self.precision)
        for profile in optimization_profiles(builder, network, self.options):
            if config.add_optimization_profile(profile) < 0:
                raise self.heard.error(f"does not take batches {self.options.batch}")
        config.progress_monitor = monitor = progress_monitor(self.trt, self.watch)
        warnings = attach_timing_cache(config, self.cache) if self.cache else []
        self.watch.raise_stop()
        serialized = builder.build_serialized_network(network, config)
        del parser, monitor, weights  # which had to live until here
        self.watch.raise_stop()
        if serialized is None:
            return alike(failing_layers(self.heard.errors, names), groups)
        plan = bytes(serialized)
        if self.cache:
            warnings += keep_timing_cache(config, self.cache)
        if changed:
            warnings.append(
                f"no FP16 kernel, so {len(changed)} layers are built in fp32: {', '.join(changed)}"
            )
        return _Built(graph, plan, warnings, tuple(changed))


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
    onnx: bytes,
    layers: list[Layer],
    options: BuildOptions,
    library: Library,
    version: str,
    gpu: Gpu | None,
    fp32_layers: tuple[str, ...],
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
        fp32_layers=fp32_layers,
    )
