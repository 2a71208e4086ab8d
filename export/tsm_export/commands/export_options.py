"""The options of `tsm-export`: dataclasses of what belongs together, and the request that they make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from tsm_export.request import ExportRequest
    from tsm_runtime.backends.tensorrt.build_options import BuildOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFlags:
    """Which files are written, and the videos they are calibrated and validated on."""

    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            help="precision: fp32, fp16 or int8; may be given several times, fp32 is always written"
            " [default: fp32, and fp16 if its scores are close enough]",
        ),
    ] = None
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="what must be written: onnx, tensorrt, tensorrt-rtx or all (onnx and tensorrt); plans of"
            " tensorrt are for this machine's GPU, those of tensorrt-rtx for RTX cards and built without one"
            " [default: onnx, and tensorrt where it and a GPU are there]"
        ),
    ] = None
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="for int8: annotations, or a folder of videos, that activations are measured on"
            " [default: the checkpoint's training videos]"
        ),
    ] = None
    validate: Annotated[
        Path | None,
        typer.Option(
            help="annotations of videos on which each precision is compared with fp32: mAP and agreement"
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFlags:
    """How plans are built."""

    batch: Annotated[
        str, typer.Option(help="of plans: least, best and most clips of one call, MIN,OPT,MAX")
    ] = "1,8,32"
    workspace: Annotated[
        int | None, typer.Option(help="of plans: most MiB of GPU memory for one layer [default: all]", min=1)
    ] = None
    level: Annotated[int, typer.Option(help="of plans: effort of the builder", min=0, max=5)] = 3
    timing_cache: Annotated[
        Path | None,
        typer.Option(help="of plans: file of earlier measurements [default: one per version and GPU]"),
    ] = None
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="of plans: also load in later versions of TensorRT")
    ] = False
    hardware: Annotated[
        Literal["none", "ampere_plus", "same_compute_capability"],
        typer.Option("--hardware-compatible", help="of plans: which other GPUs they run on"),
    ] = "none"
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(help="of tensorrt-rtx plans: a GPU they are for, as 8.9; may be given several times"),
    ] = None
    device: Annotated[
        str,
        typer.Option(
            help="of plans: number of the GPU that they are built on; several, as 0,1 or all: plans for each"
            " kind of them"
        ),
    ] = "0"
    stripped: Annotated[
        bool, typer.Option("--stripped", help="of plans: leave out weights, take them from the ONNX file")
    ] = False

    def build_options(self) -> BuildOptions:
        """Return the options of the builder.

        Raises:
            UsageError: a value is out of range.
        """
        from tsm_runtime.backends.tensorrt.build_options import BuildOptions, parse_batch

        return BuildOptions(
            batch=parse_batch(self.batch),
            workspace_mib=self.workspace,
            optimization_level=self.level,
            timing_cache=self.timing_cache,
            version_compatible=self.version_compatible,
            hardware_compatibility=self.hardware,
            compute_capabilities=tuple(self.compute_capability or ()),
            stripped=self.stripped,
        )

    def devices(self) -> tuple[int, ...]:
        """Return the numbers of the GPUs.

        Raises:
            UsageError, BackendError: see `device_numbers`.
        """
        from tsm_runtime.backends.cuda.device_numbers import device_numbers

        return device_numbers(self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFlags:
    """What the ONNX files contain."""

    half_weights: Annotated[
        bool,
        typer.Option(
            "--half-weights", help="store fp32 weights in half precision: half the file, same arithmetic"
        ),
    ] = False
    opset: Annotated[
        int | None,
        typer.Option(
            help="version of ONNX's operators, 18 to 23, for an older inference library [default: 20]"
        ),
    ] = None
    frame_scores: Annotated[
        bool,
        typer.Option(
            "--frame-scores/--no-frame-scores",
            help="also give action scores and features of each frame, at no extra cost",
        ),
    ] = True
    head: Annotated[
        bool, typer.Option("--head/--no-head", help="export the run's temporal head too, if it has one")
    ] = True


def export_request(files: FileFlags, plans: PlanFlags, graph: GraphFlags) -> ExportRequest:
    """Return the request that the options make.

    Raises:
        UsageError: a value is out of range, or options that do not go together.
    """
    from tsm_export.request import DEFAULT_OPSET, ExportRequest, checked_precisions, checked_targets

    return ExportRequest(
        precisions=checked_precisions(files.precision or ()),
        targets=checked_targets(files.target or ()),
        half_weights=graph.half_weights,
        calibrate=files.calibrate,
        validate=files.validate,
        opset=DEFAULT_OPSET if graph.opset is None else graph.opset,
        frame_outputs=graph.frame_scores,
        head=graph.head,
        build=plans.build_options(),
        devices=plans.devices(),
    )
