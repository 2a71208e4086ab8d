"""`tsm-train`: train a model from one TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsm_runtime.errors import BackendError, UsageError
from tsm_runtime.terminal import run_command, version_option, warn

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def tsm_train(
    config: Annotated[Path, typer.Argument(help="the run's TOML file", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder that gets a folder per run")] = Path(
        "runs"
    ),
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="replace a key, as train.epochs=5; repeatable"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="train again into a run folder that exists")] = False,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Train action and scene heads together; writes runs/NAME with checkpoints and metrics."""
    from tsm_train.config import load_config

    settings = load_config(config, set_ or [])
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device!r}: expected auto, cpu or cuda")
    folder = output / settings.name
    if (folder / "last.safetensors").exists() and not force:
        raise UsageError(f"{folder}: holds a trained run; choose another name, or --force to replace it")
    try:
        from tsm_train.training import train
    except ImportError as error:
        raise BackendError(f"{error.name or error} is not installed: pip install 'tsm-tal[train]'") from error

    metrics = train(settings, folder, device=device)
    scores = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
    warn(f"best epoch: {scores}\nwrote {folder}/best.safetensors; next: tsm-export {folder}/best.safetensors")


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-train")
