"""`tsm-triton-client`: videos in, segments out, the model on a running Triton server.

It needs neither torch nor onnx: numpy, av and tritonclient (`pip install 'tsm-tal[triton]'`).
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.errors import VideoError
from tsm_runtime.formats.names import Format
from tsm_runtime.terminal import warn

# Imports of numpy, av and tritonclient wait until they are needed: --help answers at once.

app = new_app()

_QUEUED = 2
"""Clips handed to the backend at once, as a multiple of those in flight: it waits for the last of them."""


@command(app)
def client(
    videos: Annotated[list[Path], typer.Argument(help="video files, or folders that hold some")],
    model: Annotated[str, typer.Option("--model", "-m", help="its name on the server")],
    server: Annotated[
        str, typer.Option(help="HOST:PORT of the server's gRPC endpoint; grpcs://HOST:PORT for TLS")
    ] = "localhost:8001",
    model_version: Annotated[
        int | None, typer.Option(help="of the model [default: what the server chooses]", min=1)
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="bundle with labels and clip length [default: those that tsm-triton wrote]"),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="file, folder (a file per video) or - for stdout")
    ] = None,
    format_: Annotated[
        Format | None,
        typer.Option("--format", metavar="NAME", help="[default: by the output's name, else json]"),
    ] = None,
    label_map: Annotated[
        Path | None,
        typer.Option(help='class ids for kaggle, as JSON {"label": 1} [default: the 34 of 360+x]'),
    ] = None,
    min_score: Annotated[float, typer.Option(help="drop segments below this score", min=0, max=1)] = 0.0,
    start: Annotated[float, typer.Option(help="begin at this second of the video", min=0)] = 0.0,
    end: Annotated[
        float | None, typer.Option(help="stop at this second [default: the video's end]", min=0)
    ] = None,
    video_id: Annotated[
        str | None, typer.Option("--id", help="name of the one video in the output [default: its file name]")
    ] = None,
    batch: Annotated[
        int, typer.Option(help="clips per request; the server puts requests together", min=1)
    ] = 1,
    in_flight: Annotated[int, typer.Option(help="requests sent and not yet answered, at most", min=1)] = 8,
    timeout: Annotated[float, typer.Option(help="seconds that a request may take", min=0.001)] = 60.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress bar, no warnings")] = False,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Find actions in videos with a model on a Triton server: as tsm-run, which runs the model itself."""
    from tsm_export.triton.backend import open_member, served_bundle
    from tsm_export.triton.server import TritonServer
    from tsm_runtime.captures.selection import plan_of_video
    from tsm_runtime.commands.run_all import run_all
    from tsm_runtime.models.device_models import DeviceModels
    from tsm_runtime.outputs.output_names import check_output, choose_format, label_ids_for
    from tsm_runtime.outputs.sinks import Encoding, open_sink
    from tsm_runtime.pipeline.description import describe_run
    from tsm_runtime.pipeline.options import Options
    from tsm_runtime.video.finding import MEDIA_SUFFIXES, list_inputs

    options = Options(
        start_seconds=start, end_seconds=end, min_score=min_score, batch_size=batch * in_flight * _QUEUED
    )
    inputs, errors = list_inputs(videos, video_id)
    if not inputs:  # there may be recordings, for a model of sound alone
        inputs, errors = list_inputs(videos, video_id, suffixes=MEDIA_SUFFIXES)
    check_output(output, inputs, format_)
    for error in errors:
        warn(str(error))
    if not inputs:
        raise typer.Exit(VideoError.exit_code)
    with closing(TritonServer(server, timeout_seconds=timeout)) as connection:
        number = "" if model_version is None else str(model_version)
        description = served_bundle(connection, model, number, bundle)
        if description.manifest.sound_input is not None:
            inputs, errors = list_inputs(videos, video_id, suffixes=MEDIA_SUFFIXES)
        member = open_member(
            connection, model, description, version=number, clips_per_request=batch, in_flight=in_flight
        )
        chosen = choose_format(output, format_)
        encoding = Encoding(
            format=chosen,
            external_data=describe_run([description], [member], options),
            media={video.video_id: video.path for video in inputs},
            label_ids=label_ids_for(chosen, label_map, member.action_labels),
        )
        plans = [plan_of_video(video) for video in inputs]
        lost = run_all(
            plans, [DeviceModels([member])], options, open_sink(output, format_, encoding), quiet=quiet
        )
    raise typer.Exit(lost.exit_code(len(plans), any_failed=bool(errors)))


def main() -> None:
    """Run the command."""
    run_command(app, "python -m tsm_export.commands.triton_client")


if __name__ == "__main__":
    main()
