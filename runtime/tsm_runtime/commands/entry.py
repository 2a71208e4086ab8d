"""What all commands share: the application, `--version`, help, and errors as lines with an exit code."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
import typer.core

from tsm_runtime._version import __version__
from tsm_runtime.commands.grouped_options import expand_groups
from tsm_runtime.commands.installing import for_this_installation
from tsm_runtime.errors import RunError, TsmError, UsageError
from tsm_runtime.terminal import INTERRUPTED, warn

# Newer versions of typer carry a click of their own: this name leads to the right UsageError in both.
_ParseError: Any = typer.BadParameter.__base__


class PanelCommand(typer.core.TyperCommand):
    """A command whose help is plain text, as rich would take longer to import than the rest.

    Options stand in the panels that `rich_help_panel` names, and the epilog keeps its lines.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for the arguments and for each panel."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                is_argument = param.param_type_name == "argument"
                panel = getattr(param, "rich_help_panel", None) or "Options"
                panels.setdefault("Arguments" if is_argument else panel, []).append(record)
        for title, records in panels.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write("Examples:\n")
            for line in self.epilog.splitlines():
                formatter.write(f"  {line}\n")


def new_app() -> typer.Typer:
    """Return an application for one command."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def command(
    app: typer.Typer, *, text: str | None = None, examples: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that makes a function the application's command.

    A parameter of the function may be a dataclass of options, see `grouped_options`.

    Args:
        app: the application.
        text: of the help; default: the function's docstring.
        examples: command lines for the end of the help, one a line.
    """
    register = app.command(
        cls=PanelCommand,
        help=text,
        epilog=examples,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    return lambda function: register(expand_groups(function))


def version_option() -> Any:
    """Return the `--version` option of a command."""

    def show(requested: bool) -> None:
        if requested:
            typer.echo(f"tsm-tal {__version__}")
            raise typer.Exit

    return typer.Option("--version", callback=show, is_eager=True, help="print the version and leave")


class _StandardError(logging.Handler):
    """Prints the library's log messages on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(for_this_installation(record.getMessage()))


@contextmanager
def _printing_the_log() -> Iterator[None]:
    log, handler = logging.getLogger("tsm_runtime"), _StandardError()
    propagate, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagate


def run_command(app: typer.Typer, name: str) -> None:
    """Run a typer application and leave the process with the exit code of the design."""
    with _printing_the_log():
        code = _exit_code(app, name)
    if code == INTERRUPTED:  # typer may have turned the interrupt into this code
        warn(f"{name}: interrupted")
    sys.exit(code)


def _exit_code(app: typer.Typer, name: str) -> Any:
    try:
        return app(prog_name=name, standalone_mode=False)
    except _ParseError as error:
        warn(f"{name}: {error.format_message().rstrip('.')}; see {name} --help")
        return UsageError.exit_code
    except TsmError as error:
        warn(f"{name}: {for_this_installation(str(error))}")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except MemoryError:
        warn(f"{name}: out of memory; choose a smaller --batch or --jobs, or raise the limit (ulimit -v)")
        return RunError.exit_code
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        warn(f"{name}: the system gives no further thread: a limit of memory or processes (ulimit -v, -u)")
        return RunError.exit_code
