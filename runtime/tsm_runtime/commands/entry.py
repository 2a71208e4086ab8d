"""What all commands share: the version option, and errors as messages and exit codes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from tsm_runtime._version import __version__
from tsm_runtime.errors import RunError, TsmError, UsageError

if TYPE_CHECKING:
    # rich costs more time to import than the rest of the runtime.
    pass
from tsm_runtime.terminal import INTERRUPTED, warn

# Newer versions of typer carry a click of their own: this name leads to the right UsageError in both.
_ParseError: Any = typer.BadParameter.__base__


def version_option() -> Any:
    """Return the `--version` option of a command."""

    def show(asked: bool) -> None:
        if asked:
            typer.echo(f"tsm-tal {__version__}")
            raise typer.Exit

    return typer.Option("--version", callback=show, is_eager=True, help="print the version and leave")


def run_command(app: typer.Typer, name: str) -> None:
    """Run a typer application and leave the process with the exit code of the design."""
    try:
        code = app(prog_name=name, standalone_mode=False)
    except _ParseError as error:
        code = UsageError.exit_code
        warn(f"{name}: {error.format_message().rstrip('.')}; see {name} --help")
    except TsmError as error:
        code = error.exit_code
        warn(f"{name}: {error}")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except MemoryError:
        code = RunError.exit_code
        warn(f"{name}: out of memory; choose a smaller --batch or --jobs, or raise the limit (ulimit -v)")
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        code = RunError.exit_code
        warn(f"{name}: the system gives no further thread: a limit of memory or processes (ulimit -v, -u)")
    if code == INTERRUPTED:  # typer may have turned the interrupt into this code
        warn(f"{name}: interrupted")
    sys.exit(code)
