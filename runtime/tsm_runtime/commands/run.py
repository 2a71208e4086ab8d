"""`tsm-run`: video files in, segments out."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.commands.file_request import FileRequest

# numpy, av and rich are imported where they are needed: --help answers at once.

app = new_app()

_EXAMPLES = """tsm-run video.mp4 --model bundle -o video.json
tsm-run recordings/ --model bundle --output results/ --format csv
tsm-run --capture data/360x --model panoramic --model third_person -o fused.json"""


@command(app, examples=_EXAMPLES)
def tsm_run(
    *, context: typer.Context, request: FileRequest, version: Annotated[bool, version_option()] = False
) -> None:
    """Find which action happens from when to when in videos, and in what scene."""
    if request.log_json:
        from tsm_runtime.commands.log_json import log_as_json

        log_as_json()
    if request.demo:
        from tsm_runtime.commands.demo import refuse_options, run_demo

        refuse_options(context)
        run_demo()
        return
    request.check()
    from tsm_runtime.commands.run_files import run_files

    raise typer.Exit(run_files(request))


def main() -> None:
    """Run the command; with `--live` anywhere this is `tsm-live`."""
    if "--live" in sys.argv[1:]:
        from tsm_runtime.commands.live import app as live_app

        sys.argv.remove("--live")
        run_command(live_app, "tsm-run --live")
    run_command(app, "tsm-run")
