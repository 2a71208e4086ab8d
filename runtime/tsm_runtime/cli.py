"""`tsm-run`: video files in, segments out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsm_runtime.errors import TsmError, UsageError, VideoError
from tsm_runtime.formats.names import Format
from tsm_runtime.terminal import run_command, version_option, warn

# Imports of numpy, av and rich wait until they are needed: --help answers at once.

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def tsm_run(
    videos: Annotated[
        list[Path] | None, typer.Argument(help="video files, or folders that hold some", show_default=False)
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="bundle folder [default: $TSM_MODEL, ./bundle, the demo model]"),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="file, folder (a file per video) or - for stdout")
    ] = None,
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="[default: by the output's name, else json]"),
    ] = None,
    label_map: Annotated[
        Path | None,
        typer.Option(help='class ids for kaggle, as JSON {"label": 1} [default: the 34 of 360+x]'),
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option(help="also write the video with its labels burnt in, as .mp4, .mov or .mkv")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="also write a page (.html) with the video, a timeline and all scores")
    ] = None,
    embed: Annotated[bool, typer.Option("--embed", help="put the videos into the report's page")] = False,
    truth: Annotated[
        Path | None, typer.Option(help="annotations to show beside what was found, in the report")
    ] = None,
    min_score: Annotated[float, typer.Option(help="drop segments below this score", min=0, max=1)] = 0.0,
    start: Annotated[float, typer.Option(help="begin at this second of the video", min=0)] = 0.0,
    end: Annotated[
        float | None, typer.Option(help="stop at this second [default: the video's end]", min=0)
    ] = None,
    video_id: Annotated[
        str | None, typer.Option("--id", help="name of the one video in the output [default: its file name]")
    ] = None,
    batch: Annotated[int, typer.Option(help="clips per call of the model", min=1)] = 1,
    threads: Annotated[
        int | None, typer.Option(help="threads of the model [default: all cores]", min=1)
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="run the embedded model on the embedded video")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress bar, no warnings")] = False,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Find which action happens from when to when in videos, and in what scene."""
    if demo:
        from tsm_runtime.demo import run_demo

        run_demo()
        return
    if not videos:
        raise UsageError("no video given; try: tsm-run VIDEO, or tsm-run --demo")
    from tsm_runtime.batch_run import describe_run, open_member, run_all
    from tsm_runtime.bundle import load_bundle
    from tsm_runtime.inputs import find_bundle, list_inputs
    from tsm_runtime.pipeline import Options
    from tsm_runtime.sinks import Encoding, check_output, choose_format, label_ids_for, open_sink

    options = Options(start_seconds=start, end_seconds=end, min_score=min_score, batch_size=batch)
    inputs, errors = list_inputs(videos, video_id)
    check_output(output, inputs, format_)
    if overlay is not None:
        from tsm_runtime.overlay import check_overlay, with_overlay

        check_overlay(overlay, inputs, output)
    from tsm_runtime.report.sink import report_request, with_report

    page = report_request(report, embed, truth, inputs, output)
    for error in errors:
        warn(str(error))
    if not inputs:
        raise typer.Exit(VideoError.exit_code)
    bundle_path, notice = find_bundle(model)
    bundle = load_bundle(bundle_path)
    member = open_member(bundle, num_threads=threads)
    encoding = Encoding(
        format=choose_format(output, format_),
        external_data=describe_run(bundle, member, options),
        media={video.video_id: video.path for video in inputs},
        label_ids=label_ids_for(choose_format(output, format_), label_map, member.action_labels),
    )
    sink = open_sink(output, format_, encoding)
    if overlay is not None:
        sink = with_overlay(sink, inputs[0].path, overlay, quiet=quiet)
    if page is not None:
        sink = with_report(sink, page, member.action_labels)
    if notice:
        warn(notice)
    failures = run_all(inputs, member, options, sink, quiet=quiet)
    if failures == len(inputs):
        raise typer.Exit(VideoError.exit_code)
    if failures or errors:
        raise typer.Exit(TsmError.exit_code)


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-run")
