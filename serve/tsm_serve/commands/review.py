"""`tsm-review`: annotate a folder of videos in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.commands.reading_flags import ReadFlags
from tsm_runtime.errors import BackendError, UsageError
from tsm_runtime.terminal import warn, write_stdout

app = new_app()

DEFAULT_PORT = 8360
_PORTS_TRIED = 20


@command(app)
def tsm_review(
    *,
    folder: Annotated[Path, typer.Argument(help="folder of videos, searched at any depth")],
    model: Annotated[Path | None, typer.Option("--model", "-m", help="bundle that makes drafts")] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="ActivityNet JSON to edit [default: FOLDER/ground_truth.json]", show_default=False),
    ] = None,
    drafts: Annotated[
        Path | None, typer.Option(help="segments to start from, of any format that tsm-eval reads")
    ] = None,
    annotator: Annotated[
        str | None, typer.Option(help="name in the truth file [default: the user's]", show_default=False)
    ] = None,
    train_config: Annotated[
        Path | None,
        typer.Option("--train", help="TOML of tsm-train for trainings from the page; its [data] is not used"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help=f"0: any [default: {DEFAULT_PORT} or the next free one]", min=0, max=65535),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="open the page")] = True,
    reading: ReadFlags,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Annotate videos in the browser: drafts by a model, corrections by a person, one file for training."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise BackendError(f"{error.name} is not installed: pip install '.[serve]'") from error
    from tsm_serve.local_server import open_socket
    from tsm_serve.review.project import ProjectPlaces
    from tsm_serve.review.session import Session, open_browser

    truth = truth or folder / "ground_truth.json"
    if folder.is_dir() and not truth.absolute().parent.is_dir():
        raise UsageError(f"--truth {truth}: there is no folder {truth.parent}")
    session = Session(ProjectPlaces(folder=folder, truth=truth), annotator, train_config)
    session.add_drafts(model, drafts, reading.options())
    for line in session.warnings():
        warn(f"tsm-review: {line}")
    first = DEFAULT_PORT if port is None else port
    listening = open_socket("127.0.0.1", first, next_free=_PORTS_TRIED if port is None else 0)

    def announce(address: str) -> None:
        write_stdout(f"{address}\n".encode())
        if browser:
            open_browser(address)

    session.run(listening, announce)


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-review")


if __name__ == "__main__":
    main()
