"""`tsm-run`: video files in, segments out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

from .errors import TsmError, UsageError, VideoError
from .terminal import run_command, version_option, warn

if TYPE_CHECKING:
    from .outputs import Result
    from .pipeline import Member, Options

app = typer.Typer(add_completion=False, rich_markup_mode=None)

Format = Literal["json", "csv"]


@app.command()
def run_command_line(
    videos: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Argument(help="video files, or folders that hold some", show_default=False),
    ] = None,
    model: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--model", "-m", help="bundle folder [default: $TSM_MODEL, ./bundle, the demo model]"),
    ] = None,
    output: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--output", "-o", help="file, folder (a file per video) or - for stdout"),
    ] = None,
    format_: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--format", help="json or csv [default: by the output's name, else json]"),
    ] = None,
    min_score: Annotated[float, typer.Option(help="drop segments below this score", min=0, max=1)] = 0.0,
    start: Annotated[float, typer.Option(help="seconds at which to begin", min=0)] = 0.0,
    end: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="seconds at which to stop [default: the video's end]", min=0),
    ] = None,
    video_id: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--id", help="name of the one video in the output [default: its file name]"),
    ] = None,
    batch: Annotated[int, typer.Option(help="clips per call of the model", min=1)] = 1,
    threads: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="threads of the model [default: all cores]", min=1),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="run the embedded model on the embedded video")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress bar and no warnings")] = False,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Find which action happens from when to when in videos, and in what scene."""
    if demo:
        from .demo import run_demo

        run_demo()
        return
    if not videos:
        raise UsageError("no video given; try: tsm-run VIDEO, or tsm-run --demo")
    if end is not None and end <= start:
        raise UsageError(f"--end {end:g} must be after --start {start:g}")
    from .inputs import find_bundle, list_inputs
    from .pipeline import Options
    from .sinks import open_sink

    inputs = list_inputs(videos, video_id)
    sink = open_sink(output, format_, num_videos=len(inputs))
    bundle_path = find_bundle(model, quiet=quiet)
    options = Options(start_seconds=start, end_seconds=end, min_score=min_score, batch_size=batch)
    ...
