"""The settings of TensorRT's builder for a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tsm_runtime.backends.tensorrt.build_options import BuildOptions
from tsm_runtime.backends.tensorrt.inspector import Precision
from tsm_runtime.errors import UsageError


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
