"""`tsm-export`: a checkpoint becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.errors import BackendError
from tsm_runtime.terminal import warn

app = new_app()


@command(app)
def tsm_export(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="[default: the newest runs/*/best.safetensors]", show_default=False),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="bundle folder to write")] = Path("bundle"),
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            help="precision: fp32, fp16 or int8; may be given several times, fp32 is always written"
            " [default: fp32]",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="what must be written: onnx, tensorrt, tensorrt-rtx or all (onnx and tensorrt); plans of"
            " tensorrt are for this machine's GPU, those of tensorrt-rtx for RTX cards and built without one"
            " [default: onnx, and tensorrt where it and a GPU are there]"
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="for int8: annotations, or a folder of videos, that activations are measured on"
            " [default: the checkpoint's training videos]"
        ),
    ] = None,
    validate: Annotated[
        Path | None,
        typer.Option(
            help="annotations of videos on which each precision is compared with fp32: mAP and agreement"
        ),
    ] = None,
    batch: Annotated[
        str, typer.Option(help="of plans: least, best and most clips of one call, MIN,OPT,MAX")
    ] = "1,8,32",
    workspace: Annotated[
        int | None, typer.Option(help="of plans: most MiB of GPU memory for one layer [default: all]", min=1)
    ] = None,
    level: Annotated[int, typer.Option(help="of plans: effort of the builder", min=0, max=5)] = 3,
    timing_cache: Annotated[
        Path | None,
        typer.Option(help="of plans: file of earlier measurements [default: one per version and GPU]"),
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="of plans: also load in later versions of TensorRT")
    ] = False,
    hardware: Annotated[
        Literal["none", "ampere_plus", "same_compute_capability"],
        typer.Option("--hardware-compatible", help="of plans: which other GPUs they run on"),
    ] = "none",
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(help="of tensorrt-rtx plans: a GPU they are for, as 8.9; may be given several times"),
    ] = None,
    stripped: Annotated[
        bool, typer.Option("--stripped", help="of plans: leave out weights, take them from the ONNX file")
    ] = False,
    half_weights: Annotated[
        bool,
        typer.Option(
            "--half-weights", help="store fp32 weights in half precision: half the file, same arithmetic"
        ),
    ] = False,
    opset: Annotated[
        int | None,
        typer.Option(
            help="version of ONNX's operators, 18 to 23, for an older inference library [default: 20]"
        ),
    ] = None,
    frame_scores: Annotated[
        bool,
        typer.Option(
            "--frame-scores/--no-frame-scores",
            help="also give action scores and features of each frame, at no extra cost",
        ),
    ] = True,
    head: Annotated[
        bool, typer.Option("--head/--no-head", help="export the run's temporal head too, if it has one")
    ] = True,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Write a bundle that tsm-run takes: ONNX with normalisation inside, compared with PyTorch, and plans."""
    from tsm_export.request import DEFAULT_OPSET, ExportRequest, checked_precisions, checked_targets
    from tsm_runtime.backends.tensorrt.build_options import BuildOptions, parse_batch

    request = ExportRequest(
        precisions=checked_precisions(precision or ("fp32",)),
        targets=checked_targets(target or ()),
        half_weights=half_weights,
        calibrate=calibrate,
        validate=validate,
        opset=DEFAULT_OPSET if opset is None else opset,
        frame_outputs=frame_scores,
        head=head,
        build=BuildOptions(
            batch=parse_batch(batch),
            workspace_mib=workspace,
            optimization_level=level,
            timing_cache=timing_cache,
            version_compatible=version_compatible,
            hardware_compatibility=hardware,
            compute_capabilities=tuple(compute_capability or ()),
            stripped=stripped,
        ),
    )
    try:
        from tsm_export.export import export_bundle, newest_checkpoint
        from tsm_export.summary import describe
    except ImportError as error:
        raise BackendError(
            f"{error.name or error} is not installed: pip install 'tsm-tal[export,cpu]', or"
            " 'tsm-tal[export,gpu]' on a CUDA machine"
        ) from error

    source = checkpoint or newest_checkpoint()
    exported = export_bundle(source, output, request)
    warn(describe(source, output, exported))
    for line in exported.warnings:
        warn(line)
    for problem in exported.problems[:-1]:
        warn(f"tsm-export: {problem}")
    if exported.problems:
        raise exported.problems[-1]


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-export")
