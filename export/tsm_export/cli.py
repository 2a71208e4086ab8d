"""`tsm-export`: a checkpoint becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsm_runtime.errors import BackendError, UsageError
from tsm_runtime.terminal import run_command, version_option, warn

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_PRECISIONS = ("fp32",)


@app.command()
def tsm_export(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="[default: the newest runs/*/best.safetensors]", show_default=False),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="bundle folder to write")] = Path("bundle"),
    engine: Annotated[list[str] | None, typer.Option(help="precision: fp32 [default: fp32]")] = None,
    half_weights: Annotated[
        bool,
        typer.Option(
            "--half-weights", help="store weights in half precision: half the file, same arithmetic"
        ),
    ] = False,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Write a bundle that tsm-run takes: ONNX with normalisation inside, compared with PyTorch."""
    for precision in engine or ["fp32"]:
        if precision not in _PRECISIONS:
            raise UsageError(f"--engine {precision!r}: this version writes {', '.join(_PRECISIONS)}")
    try:
        from tsm_export.export import export_bundle, newest_checkpoint
    except ImportError as error:
        raise BackendError(
            f"{error.name or error} is not installed: pip install 'tsm-tal[export]'"
        ) from error

    source = checkpoint or newest_checkpoint()
    manifest = export_bundle(source, output, half_weights=half_weights)
    parity = manifest.files["model.fp32.onnx"].parity
    assert parity is not None  # every export is compared
    differences = ", ".join(f"{name} {error:.1e}" for name, error in parity.max_abs_error.items())
    warn(
        f"{source} -> {output}/model.fp32.onnx\n"
        f"largest difference from PyTorch at batches {parity.batch_sizes}: {differences}"
        f" (allowed {parity.tolerance:g})"
    )


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-export")
