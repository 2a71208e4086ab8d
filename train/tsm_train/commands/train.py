"""`tsm-train`: train a model from one TOML file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.errors import BackendError, UsageError
from tsm_runtime.terminal import warn, write_stdout

app = new_app()


def _list_presets(requested: bool) -> None:
    from tsm_train.presets import preset_names, preset_summary

    if requested:
        lines = [f"{name}\t{preset_summary(name)}\n" for name in preset_names()]
        write_stdout("".join(lines).encode())
        raise typer.Exit


def _show_preset(name: str | None) -> None:
    from tsm_train.presets import preset_path

    if name is not None:
        write_stdout(preset_path(name).read_bytes())
        raise typer.Exit


def _print_keys(requested: bool) -> None:
    from tsm_train.config_reference import configuration_reference

    if requested:
        write_stdout(configuration_reference().encode())
        raise typer.Exit


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What is trained, on what, and where to; None: not given."""

    config: Annotated[
        str, typer.Argument(help="the run's TOML file, or the name of a shipped one", show_default=False)
    ]
    data: Annotated[
        Path | None,
        typer.Option(help="folder where the configuration's relative paths start; a shipped one needs it"),
    ] = None
    output: Annotated[Path, typer.Option("--output", "-o", help="folder that gets a folder per run")] = Path(
        "runs"
    )
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="replace a key, as train.epochs=5; repeatable"),
    ] = None
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto"
    devices: Annotated[int, typer.Option(min=1, help="GPUs of this machine; torchrun decides itself")] = 1
    nodes: Annotated[int, typer.Option(min=1, help="machines; torchrun decides itself")] = 1
    resume: Annotated[
        bool, typer.Option("--resume", help="go on after the last finished epoch; begin where there is none")
    ] = False
    force: Annotated[bool, typer.Option("--force", help="train again into a run folder that exists")] = False
    head_only: Annotated[
        bool,
        typer.Option(
            "--head-only",
            help="train the temporal head alone, on features of model.pretrained as it is: minutes on a CPU",
        ),
    ] = False
    list_: Annotated[
        bool, typer.Option("--list", callback=_list_presets, is_eager=True, help="print the shipped ones")
    ] = False
    show: Annotated[
        str | None,
        typer.Option(callback=_show_preset, is_eager=True, metavar="NAME", help="print one, to copy from"),
    ] = None
    keys: Annotated[
        bool,
        typer.Option("--keys", callback=_print_keys, is_eager=True, help="print all keys of a configuration"),
    ] = False


@command(app)
def tsm_train(*, request: TrainRequest, version: Annotated[bool, version_option()] = False) -> None:
    """Train action and scene heads together; writes runs/NAME with checkpoints and metrics."""
    from tsm_train.config import load_config
    from tsm_train.presets import config_path

    settings = load_config(config_path(request.config, request.data), request.set_ or [], root=request.data)
    if request.device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {request.device!r}: expected auto, cpu or cuda")
    folder = request.output / settings.name
    _check_folder(folder, resume=request.resume, force=request.force)
    if request.head_only and request.resume:
        raise UsageError("--head-only is one step: there is nothing to --resume")
    try:
        from tsm_train.training.head_only import train_head_only
        from tsm_train.training.train import train
    except ImportError as error:
        raise BackendError(f"{error.name or error} is not installed: pip install 'tsm-tal[train]'") from error

    if request.head_only:
        _report(train_head_only(settings, folder), folder, "temporal head")
        return
    metrics = train(
        settings,
        folder,
        device=request.device,
        devices=request.devices,
        nodes=request.nodes,
        resume=request.resume,
    )
    if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) != "0":
        return  # of several processes the first one speaks
    _report(metrics, folder, "best epoch")


def _report(metrics: Mapping[str, float], folder: Path, what: str) -> None:
    scores = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
    warn(f"{what}: {scores}\nwrote {folder}/best.safetensors; next: tsm-export {folder}/best.safetensors")


def _check_folder(folder: Path, *, resume: bool, force: bool) -> None:
    if resume and force:
        raise UsageError("--resume continues a run, --force starts it again; choose one")
    if resume or force:
        return
    if (folder / "resume.ckpt").exists():
        raise UsageError(f"{folder}: holds an unfinished run; --resume continues it, --force starts again")
    if (folder / "last.safetensors").exists():
        raise UsageError(f"{folder}: holds a trained run; choose another name, or --force to replace it")


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-train")
