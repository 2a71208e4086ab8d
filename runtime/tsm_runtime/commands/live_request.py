"""The options of `tsm-live`, as the request that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import tsm_runtime.commands.model_options as options

if TYPE_CHECKING:
    from tsm_runtime.models.choice import BackendRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRequest:
    """Options of the command; None: not given."""

    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]SOURCE",
            help="rtsp://... or another address, /dev/video0, - (standard input), a named pipe or a file;"
            " several run side by side and share batches",
            show_default=False,
        ),
    ] = None
    streams: Annotated[
        Path | None, typer.Option(help='streams by name, as TOML: [streams] cam1 = "rtsp://..."')
    ] = None
    model: options.Models = None
    fusion: options.FusionFlags
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="file to append the lines to, or a folder/ for a file of each stream [default: standard"
            " output]",
        ),
    ] = None
    show_open: Annotated[bool, typer.Option("--open", help="also report segments that are not over")] = False
    min_score: options.MinScore = None
    around: options.ScoreFlags
    decoding: options.DecodingMethod = None
    lookahead: Annotated[
        float | None,
        typer.Option(
            help="seconds of later frames that may change the label of a frame, for the decodings viterbi and"
            " durations; they add to the delay [default: 2]",
            min=0,
            show_default=False,
        ),
    ] = None
    video_id: Annotated[
        str | None, typer.Option("--id", help="name of the stream in the output [default: from its source]")
    ] = None
    drop: Annotated[
        Literal["oldest", "none"] | None,
        typer.Option(
            help="when the machine is too slow: drop the oldest intervals, or none, so that the source waits"
            " [default: oldest; none for pipes and files]"
        ),
    ] = None
    timeout: Annotated[
        float, typer.Option(help="a network stream without data for so many seconds is lost", min=0.1)
    ] = 10.0
    reconnect: Annotated[
        float | None,
        typer.Option(help="seconds to try to reconnect to a lost stream [default: without limit]", min=0),
    ] = None
    pace: Annotated[bool, typer.Option("--pace", help="play a file at its own speed, like a camera")] = False
    rate: Annotated[
        float | None,
        typer.Option(
            help="frames per second of a source that holds no times [default: a camera's frames get the time"
            " at which they arrive; of files and pipes 25 is assumed]",
            show_default=False,
        ),
    ] = None
    batch: Annotated[
        int | None,
        typer.Option(
            help="clips per call of the model, if several wait [default: 8]", min=1, show_default=False
        ),
    ] = None
    threads: options.Threads = None
    precision: options.Precision = None
    backend: options.Backend = None
    rebuild: options.Rebuild = False
    metrics: options.Metrics = None
    log_json: options.LogJson = False
    json: Annotated[
        bool, typer.Option("--json", help="JSON lines also on a terminal, which else gets a readable view")
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no warnings")] = False

    def backend_request(self) -> BackendRequest:
        """Return the backend to open."""
        from tsm_runtime.models.choice import BackendRequest

        return BackendRequest(
            backend=self.backend or "auto",
            precision=self.precision,
            rebuild=self.rebuild,
            num_threads=self.threads,
        )
