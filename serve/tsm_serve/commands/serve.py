"""`tsm-serve`: the HTTP service."""

from __future__ import annotations

import ipaddress
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.errors import BackendError, UsageError
from tsm_runtime.terminal import warn, write_stdout

app = new_app()

TOKEN_VARIABLE = "TSM_SERVE_TOKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeRequest:
    """Which models are served, where, and within which limits; None: not given."""

    bundles: Annotated[list[Path], typer.Argument(help="folders of tsm-export; the first is the default")]
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1"
    port: Annotated[int, typer.Option(help="0: any free one", min=0, max=65535)] = 8370
    root: Annotated[
        list[Path] | None, typer.Option(help="folder below which clients may name files; repeatable")
    ] = None
    source: Annotated[
        list[str] | None,
        typer.Option(help="address below which clients may watch streams; repeatable"),
    ] = None
    queue: Annotated[int, typer.Option(help="jobs that may wait; more get 429", min=1)] = 16
    jobs: Annotated[int, typer.Option(help="processes that decode and score", min=1)] = 1
    threads: Annotated[int | None, typer.Option(help="of the network in each process", min=1)] = None
    max_upload: Annotated[int, typer.Option(help="bytes", min=1)] = 2_000_000_000
    max_seconds: Annotated[float, typer.Option(help="that one job may take", min=0.1)] = 3600.0
    grace: Annotated[float, typer.Option(help="seconds that running jobs get at the end", min=0)] = 30.0
    spool: Annotated[
        Path | None,
        typer.Option(help="folder of uploads and unfinished jobs, taken up again [default: new]"),
    ] = None
    insecure: Annotated[
        bool, typer.Option("--insecure", help=f"listen to other machines without {TOKEN_VARIABLE}")
    ] = False


@command(app)
def tsm_serve(*, request: ServeRequest, version: Annotated[bool, version_option()] = False) -> None:
    """Serve models over HTTP: post a video, follow the job, get segments. See docs/serve.md.

    Clients need the bearer token in the environment variable TSM_SERVE_TOKEN, if it is set. There is no other
    authentication and no encryption: put a proxy in front that has both.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise BackendError(f"{error.name} is not installed: pip install '.[serve]'") from error
    from tsm_serve.local_server import open_socket, serve
    from tsm_serve.service.app import service_app
    from tsm_serve.service.jobs import JobLimits
    from tsm_serve.service.options import ServiceOptions
    from tsm_serve.service.service import Service

    token = os.environ.get(TOKEN_VARIABLE, "")
    if not (token or request.insecure or _is_local(request.host)):
        raise UsageError(
            f"--host {request.host}: other machines reach it; set {TOKEN_VARIABLE}, or give --insecure"
        )
    options = ServiceOptions(
        token=token,
        roots=tuple(request.root or ()),
        sources=tuple(request.source or ()),
        upload_bytes=request.max_upload,
        limits=JobLimits(queue=request.queue, seconds=request.max_seconds),
        num_workers=request.jobs,
        num_threads=request.threads,
        grace_seconds=request.grace,
    )
    listening = open_socket(request.host, request.port)
    with listening:
        folder = request.spool or Path(tempfile.mkdtemp(prefix="tsm-serve-"))
        service = Service(request.bundles, folder, options)
        shown = f"[{request.host}]" if ":" in request.host else request.host
        address = f"http://{shown}:{listening.getsockname()[1]}"
        try:
            started = lambda: write_stdout(f"{address}\n".encode())  # noqa: E731
            serve(service_app(service), listening, started, drain=service.drain)
        finally:
            left = service.close()
            if left:
                warn(f"tsm-serve: {left} unfinished jobs are left; --spool {folder} takes them up again")
            elif request.spool is None:
                shutil.rmtree(folder, ignore_errors=True)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-serve")


if __name__ == "__main__":
    main()
