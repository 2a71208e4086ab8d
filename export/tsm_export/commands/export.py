"""`tsm-export`: a checkpoint becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsm_export.commands.export_options import FileFlags, GraphFlags, PlanFlags, export_request
from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.errors import BackendError
from tsm_runtime.terminal import warn

app = new_app()


@command(app)
def tsm_export(
    *,
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="[default: the newest runs/*/best.safetensors]", show_default=False),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="bundle folder to write")] = Path("bundle"),
    files: FileFlags,
    plans: PlanFlags,
    graph: GraphFlags,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Write a bundle that tsm-run takes: ONNX with normalisation inside, compared with PyTorch, and plans."""
    request = export_request(files, plans, graph)
    try:
        from tsm_export.export import export_bundle, newest_checkpoint
        from tsm_export.summary import describe
    except ImportError as error:
        raise BackendError(
            f"{error.name or error} is not installed: pip install 'tsm-tal[export,cpu]', or"
            " 'tsm-tal[export,gpu]' on a CUDA machine"
        ) from error

    source = checkpoint or newest_checkpoint()
    if source.is_dir():  # a run folder
        source = source / "best.safetensors"
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
