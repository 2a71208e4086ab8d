"""What all commands share: `--version`, and errors as one or two lines with the design's exit code."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from tsm_runtime import __version__
from tsm_runtime.errors import TsmError

__all__ = ["run_command", "version_option", "warn"]

INTERRUPTED = 130


def version_option() -> Any:  # noqa: ANN401
    """Return the `--version` option of a command."""

    def show(asked: bool) -> None:
        if asked:
            typer.echo(f"tsm-tal {__version__}")
            raise typer.Exit

    return typer.Option("--version", callback=show, is_eager=True, help="print the version and leave")


def warn(text: str) -> None:
    """Print one line on standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def run_command(app: typer.Typer, name: str) -> None:
    """Run a typer application and leave the process with the exit code of the design."""
    try:
        code = app(prog_name=name, standalone_mode=True)
    except TsmError as error:
        code = error.exit_code
        warn(f"{name}: {error}")
    except KeyboardInterrupt:
        code = INTERRUPTED
        warn(f"{name}: interrupted")
    except BrokenPipeError:  # the reader of our output went away: nothing is left to tell it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)
