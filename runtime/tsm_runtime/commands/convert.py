"""`tsm-convert`: annotations or segments of any format in, another format out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.commands.reading_flags import ReadFlags
from tsm_runtime.errors import UsageError
from tsm_runtime.formats.names import FORMAT_NAMES, Format

app = new_app()

_EXAMPLES = """tsm-convert project.boris ground_truth.json
tsm-convert export.json drafts.eaf --frame-rate 24
tsm-convert found.json labels/ --format frame-labels --videos recordings"""


@command(app, examples=_EXAMPLES)
def tsm_convert(
    *,
    source: Annotated[
        Path, typer.Argument(help="file, or folder of files, in any format of docs/formats.md")
    ],
    output: Annotated[str, typer.Argument(help="file, folder (a file per video) or - for stdout")],
    target: Annotated[
        Literal["activitynet", Format] | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help=f"activitynet, {', '.join(FORMAT_NAMES)}"
            " [default: by the output's name; of .json activitynet]",
        ),
    ] = None,
    videos: Annotated[
        Path | None, typer.Option(help="folder of the videos, for names and frame rates in the output")
    ] = None,
    subset: Annotated[
        str, typer.Option(help="activitynet: the subset of videos that have none")
    ] = "training",
    reading: ReadFlags,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Convert annotations, or segments with scores, between the formats of docs/formats.md."""
    from tsm_runtime.commands.convert_files import convert_file
    from tsm_runtime.files import is_folder

    if videos is not None and not is_folder(videos):
        raise UsageError(f"--videos {videos}: there is no such folder")
    convert_file(source, output, target, videos=videos, subset=subset, options=reading.options())


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-convert")
