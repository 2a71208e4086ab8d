"""`python -m tsm_train.synthetic FOLDER`: draw a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tsm_train.synthetic.actor import MOST_FIGURES
from tsm_train.synthetic.dataset import draw_dataset


def _parse_size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise typer.BadParameter(f"{text!r} is not a size such as 192x144", param_hint="--size")
    return int(width), int(height)


def main(
    folder: Annotated[Path, typer.Argument(help="Folder to write videos/ and ground_truth.json to.")],
    training: Annotated[int, typer.Option(min=0, help="Number of training videos.")] = 80,
    validation: Annotated[int, typer.Option(min=0, help="Number of validation videos.")] = 20,
    test: Annotated[int, typer.Option(min=0, help="Number of test videos.")] = 0,
    seconds: Annotated[float, typer.Option(min=0.04, help="Duration of every video.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Fixes everything that is random.")] = 0,
    size: Annotated[str, typer.Option(metavar="WxH", help="Picture size in pixels, both even.")] = "192x144",
    crf: Annotated[int, typer.Option(min=0, max=51, help="Constant rate factor of x264.")] = 23,
    figures: Annotated[
        int, typer.Option(min=1, max=MOST_FIGURES, help="Two act side by side: actions overlap.")
    ] = 1,
    short: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the actions that last 0.2 to 0.4 s.")
    ] = 0.0,
    sounds: Annotated[
        bool, typer.Option("--sounds", help="Add a sound track, and actions that are heard.")
    ] = False,
    processes: Annotated[int | None, typer.Option(min=1, help="Default: one per CPU core.")] = None,
) -> None:
    """Draw a data set of figures that act, with exact ground truth; prints the path of the JSON file."""
    width, height = _parse_size(size)
    columns = (TextColumn("drawing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("drawing", total=training + validation + test)
        try:
            path = draw_dataset(
                folder,
                seed=seed,
                training=training,
                validation=validation,
                test=test,
                seconds=seconds,
                width=width,
                height=height,
                crf=crf,
                figures=figures,
                short=short,
                processes=processes,
                on_video=lambda number: progress.update(task, completed=number),
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    if sounds:
        from tsm_train.synthetic.sounds import add_sounds

        add_sounds(path, folder / "videos", seed)
    typer.echo(path)


if __name__ == "__main__":
    typer.run(main)
