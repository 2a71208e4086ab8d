"""`tsm-offsets`: where the videos of a capture begin on its time line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.errors import TsmError, UsageError, VideoError
from tsm_runtime.terminal import warn, write_stdout

if TYPE_CHECKING:
    from tsm_runtime.captures.matching.find import FoundOffset

# Imports of numpy wait until they are needed: --help answers at once.

app = new_app()

_HELP = """Find where each video of a capture begins, by its sound, else by its pictures.

CAPTURE holds a folder for each view with its videos, as 360+x has them, or a video of each camera. Offsets
are seconds on the time line of the panoramic video, else of the first view's. A video that shows another
moment, or of which that is not certain, has none.

\b
Exit code 1: some videos have neither sound nor pictures to compare; 3: none has.
"""


@command(app, text=_HELP)
def tsm_offsets(
    capture: Annotated[Path, typer.Argument(help="folder of a capture or of several, or folder/id of 360+x")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="also write a CSV that tsm-run --offsets and training read",
            show_default=False,
        ),
    ] = None,
    track: Annotated[str, typer.Option(help="audio track: its number from 0, or its language")] = "",
    json_: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no warnings")] = False,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Find offsets (its help is `_HELP`)."""
    if output is not None and not output.parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {output.parent}")
    from tsm_runtime.captures.matching.find import find_groups, find_offsets, offsets_to_csv
    from tsm_runtime.files import write_whole

    root, groups = find_groups(capture)
    found: list[FoundOffset] = []
    for group in groups:
        offsets, warnings = find_offsets(group, track=track)
        found += offsets
        for line in () if quiet else warnings:
            warn(line)
    if output is not None:
        write_whole(output, offsets_to_csv(root, found))
    if json_:
        entries = [
            {
                "video": each.path.relative_to(root).as_posix(),
                "offset_seconds": each.offset_seconds,
                "confidence": each.confidence,
                "drift": round(each.drift, 6),
                "note": each.note,
            }
            for each in found
        ]
        write_stdout((json.dumps({"offsets": entries}, indent=1) + "\n").encode())
    else:
        write_stdout(_table(root, found).encode())
    num_lost = sum(not each.is_readable for each in found)
    if num_lost:
        raise typer.Exit(VideoError.exit_code if num_lost == len(found) else TsmError.exit_code)


def _table(root: Path, found: list[FoundOffset]) -> str:
    names = [each.path.relative_to(root).as_posix() for each in found]
    width = max(map(len, names))
    lines = []
    for name, each in zip(names, found, strict=True):
        offset = "-" if each.offset_seconds is None else f"{each.offset_seconds:.3f} s"
        lines.append(f"{name:{width}}  {offset:>11}  {each.confidence:.2f}  {each.note}\n")
    return "".join(lines)


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-offsets")
