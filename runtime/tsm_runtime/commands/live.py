"""`tsm-live`: streams in, segments out as JSON lines."""

from __future__ import annotations

from typing import Annotated

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.commands.live_request import LiveRequest

# Imports of numpy, av and rich are delayed until they are needed: --help answers at once.

app = new_app()


@command(app)
def tsm_live(*, request: LiveRequest, version: Annotated[bool, version_option()] = False) -> None:
    """Find which action happens from when to when in streams: JSON lines, each as soon as it is known."""
    if request.log_json:
        from tsm_runtime.commands.log_json import log_as_json

        log_as_json()
    from tsm_runtime.commands.run_live import run_live

    raise typer.Exit(run_live(request))


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-live")
