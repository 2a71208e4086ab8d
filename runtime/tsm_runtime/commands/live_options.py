"""The options that `tsm-live` has and `tsm-run` has not: their types, names and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME=]SOURCE",
        help="rtsp://... or another address, /dev/video0, - (standard input), a named pipe or a file; several"
        " run side by side and share batches",
        show_default=False,
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        help="file to append the lines to, or a folder/ for a file of each stream [default: standard output]",
    ),
]
VideoId = Annotated[
    str | None, typer.Option("--id", help="name of the stream in the output [default: from its source]")
]
Batch = Annotated[
    int | None,
    typer.Option(help="clips per call of the model, if several wait [default: 8]", min=1, show_default=False),
]
Lookahead = Annotated[
    float | None,
    typer.Option(
        help="seconds of later frames that may change the label of a frame, for the decodings viterbi and"
        " durations; they add to the delay [default: 2]",
        min=0,
        show_default=False,
    ),
]
ShowOpen = Annotated[bool, typer.Option("--open", help="also report segments that are not over")]
Drop = Annotated[
    Literal["oldest", "none"] | None,
    typer.Option(
        help="when the machine is too slow: drop the oldest intervals, or none, so that the source waits"
        " [default: oldest; none for pipes and files]"
    ),
]
Timeout = Annotated[
    float, typer.Option(help="a network stream without data for so many seconds is lost", min=0.1)
]
Reconnect = Annotated[
    float | None,
    typer.Option(help="seconds to try to reconnect to a lost stream [default: without limit]", min=0),
]
Rate = Annotated[
    float | None,
    typer.Option(
        help="frames per second of a source that holds no times [default: a camera's frames get the time"
        " at which they arrive; of files and pipes 25 is assumed]",
        show_default=False,
    ),
]
Pace = Annotated[bool, typer.Option("--pace", help="play a file at its own speed, like a camera")]
Streams = Annotated[Path | None, typer.Option(help='streams by name, as TOML: [streams] cam1 = "rtsp://..."')]
Json = Annotated[
    bool, typer.Option("--json", help="JSON lines also on a terminal, which else gets a readable view")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no warnings")]
