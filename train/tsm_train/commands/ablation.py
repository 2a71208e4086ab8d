"""`tsm-ablation`: train and score the members of a table, fuse them, and write the table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.errors import BackendError, UsageError
from tsm_runtime.terminal import warn, write_stdout

app = new_app()


@command(app)
def tsm_ablation(
    config: Annotated[Path, typer.Argument(help="the ablation's TOML file", show_default=False)],
    data: Annotated[Path | None, typer.Option(help="folder where relative paths of the file start")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="folder that gets a folder per ablation")
    ] = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="train this member alone; repeatable")
    ] = None,
    score_only: Annotated[
        bool, typer.Option("--score-only", help="train nothing, score what is trained")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check everything and print what would be trained")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="with --only: train it again")] = False,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Train what is not trained yet and write NAME/table.md, .json and .png; a table goes to stdout.

    A run that was broken off goes on when the same command is given again; trained members stay as they are.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device!r}: expected auto, cpu or cuda")
    if force and not only:
        raise UsageError("--force trains a member again: name it with --only")
    if force and score_only:
        raise UsageError("--force trains again, --score-only trains nothing; choose one")
    from tsm_train.ablation.config import load_ablation

    ablation = load_ablation(config, data)
    folder = output / ablation.name
    try:
        from tsm_train.ablation.plan import describe_plan
        from tsm_train.ablation.run import run_ablation
        from tsm_train.ablation.terminal_table import table_to_text
    except ImportError as error:
        raise BackendError(f"{error.name or error} is not installed: pip install 'tsm-tal[train]'") from error
    if dry_run:
        write_stdout(describe_plan(ablation, folder, only or ()).encode())
        return
    table = run_ablation(ablation, folder, device=device, only=only or (), train=not score_only, force=force)
    write_stdout(table_to_text(table))
    warn(f"wrote {folder}/table.md, table.json, table.png")


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-ablation")
