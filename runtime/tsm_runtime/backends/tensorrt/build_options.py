"""What a plan is to be: batch sizes, memory, effort, and where it may run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tsm_runtime.backends.tensorrt.library import Library
from tsm_runtime.bundle.manifest import EngineInfo, HardwareCompatibility
from tsm_runtime.errors import UsageError

Shape = tuple[int, ...]

_MAX_LEVEL = 5
_LEAST_WORKSPACE_MIB = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What a plan is to be.

    Args:
        batch: least, best and most clips of one call; the plan is tuned for the second, and for one clip.
        workspace_mib: most memory in MiB that one layer may take for its work; None: the library's limit,
            which is all of the GPU's.
        optimization_level: 0 (fastest build) to 5 (longest search).
        timing_cache: file with measurements of earlier builds, which make the next one faster; None: one
            per version and GPU in the user's cache folder. TensorRT for RTX measures nothing when it
            builds and keeps none.
        version_compatible: the plan also loads in later versions of TensorRT. A lean runtime goes into the
            plan, so that nothing but TensorRT is needed to load it; as that is native code, loading takes
            `runtime.engine_host_code_allowed = True`.
        hardware_compatibility: `ampere_plus`: any GPU from compute capability 8.0 on;
            `same_compute_capability`: other models of GPU of that same compute capability.
        compute_capabilities: GPUs that a plan of TensorRT for RTX is for, as ("8.6", "12.0"); empty: all
            that it builds for by itself. TensorRT builds for the GPU it finds.
        stripped: leave the weights out; `refit_engine` puts them in from the ONNX file after loading.
        shapes: least, best and most of inputs that do not take clips, by name.
        device: number of the GPU that TensorRT builds on, in CUDA's order.

    Raises:
        UsageError: a value is out of range.
    """

    batch: tuple[int, int, int] = (1, 8, 32)
    workspace_mib: int | None = None
    optimization_level: int = 3
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatibility: HardwareCompatibility = "none"
    compute_capabilities: tuple[str, ...] = ()
    stripped: bool = False
    shapes: Mapping[str, tuple[Shape, Shape, Shape]] = field(default_factory=dict)
    device: int = 0

    def __post_init__(self) -> None:
        least, best, most = self.batch
        if not 1 <= least <= best <= most:
            raise UsageError(f"batch {least},{best},{most}: expected MIN,OPT,MAX with 1 <= MIN <= OPT <= MAX")
        if self.workspace_mib is not None and self.workspace_mib < _LEAST_WORKSPACE_MIB:
            raise UsageError(f"workspace {self.workspace_mib} MiB: expected {_LEAST_WORKSPACE_MIB} or more")
        if not 0 <= self.optimization_level <= _MAX_LEVEL:
            raise UsageError(f"optimization level {self.optimization_level}: expected 0 to {_MAX_LEVEL}")
        for capability in self.compute_capabilities:
            if not re.fullmatch(r"[0-9]+\.[0-9]", capability):
                raise UsageError(f"compute capability {capability!r}: expected a number like 8.9")

    @property
    def has_single(self) -> bool:
        """Whether the plan gets a second profile, tuned for exactly one clip, as live streams give them.

        It does where one clip is allowed, but the plan is tuned for more.
        """
        least, best, _ = self.batch
        return least == 1 < best and not self.shapes

    def require_fit(self, library: Library) -> None:
        """Check that a library supports these options.

        Raises:
            UsageError: an option is of the other library only.
        """
        if library == "tensorrt" and self.compute_capabilities:
            raise UsageError(
                "compute capabilities are chosen for tensorrt-rtx only: a TensorRT plan is for the GPU that"
                " it is built on; for others give hardware compatibility"
            )
        if library == "tensorrt_rtx" and (self.version_compatible or self.hardware_compatibility != "none"):
            raise UsageError(
                "tensorrt-rtx has neither version nor hardware compatible plans: it builds for several kinds"
                " of GPU (compute capabilities), and a plan is for one version"
            )


def parse_batch(text: str) -> tuple[int, int, int]:
    """Return the three numbers of `MIN,OPT,MAX`; one number stands for all three.

    >>> parse_batch("1,8,32")
    (1, 8, 32)

    Raises:
        UsageError: it is neither.
    """
    numbers = [int(part) for part in text.split(",") if re.fullmatch(r"\s*[0-9]{1,6}\s*", part)]
    if len(numbers) != text.count(",") + 1 or len(numbers) not in (1, 3):
        raise UsageError(f"batch {text!r}: expected MIN,OPT,MAX, for example 1,8,32")
    least, best, most = numbers * (3 // len(numbers))
    return least, best, most


def options_of(engine: EngineInfo, device: int = 0) -> BuildOptions:
    """Return the options with which to rebuild a plan on this machine, as a bundle's manifest has them.

    Its compute capabilities are kept where they were a choice; a TensorRT plan becomes one for the GPU here.
    """
    return BuildOptions(
        batch=engine.batch,
        version_compatible=engine.version_compatible,
        hardware_compatibility=engine.hardware_compatibility,
        compute_capabilities=engine.compute_capabilities if engine.library == "tensorrt_rtx" else (),
        stripped=engine.stripped,
        device=device,
    )


PICTURES = BuildOptions(
    batch=(1, 1, 1),
    shapes={
        "y": ((1, 16, 16), (1, 1080, 2048), (1, 4352, 16384)),
        "uv": ((1, 8, 16), (1, 540, 2048), (1, 2176, 16384)),
    },
)
"""Of a plan of `preprocess.onnx`: rows and bytes of each, padding included, for pictures of 16 x 16 to
8192 x 4320 in two bytes a sample. It is tuned for 1920 x 1080 in one, whose rows NVDEC gives 2048 bytes."""


def for_pictures(options: BuildOptions) -> BuildOptions:
    """Return the options with which to build `preprocess.onnx` beside a plan of these options.

    There are no weights to leave out of it.
    """
    return replace(options, batch=PICTURES.batch, shapes=PICTURES.shapes, stripped=False)
