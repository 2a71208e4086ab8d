"""`tsm-run`: video files in, segments out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tsm_runtime.errors import UsageError
from tsm_runtime.formats.names import Format
from tsm_runtime.terminal import is_terminal, run_command, version_option

# Imports of numpy, av and rich wait until they are needed: --help answers at once.

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def tsm_run(
    videos: Annotated[
        list[str] | None,
        typer.Argument(help="video files, or folders that hold some; --live: a stream", show_default=False),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            "-m",
            help="bundle folder; given several times: an ensemble, which decodes once"
            " [default: $TSM_MODEL, ./bundle, the demo model]",
            show_default=False,
        ),
    ] = None,
    capture: Annotated[
        list[Path] | None,
        typer.Option(
            help="folder in the layout of 360+x (panoramic/ID.mp4, third_person/ID.mp4,"
            " binocular/ID/clip1.mp4), or FOLDER/ID: each model runs on the videos of its view, and a"
            " capture's are fused",
            show_default=False,
        ),
    ] = None,
    view: Annotated[
        list[str] | None,
        typer.Option(
            help="VIEW=FILE or VIEW=FILE@SECONDS, for each video of one capture, and where it begins on the"
            " capture's time line [default: 0; of binocular and monocular clips it must be told]",
            show_default=False,
        ),
    ] = None,
    offsets: Annotated[
        Path | None,
        typer.Option(help="where videos of captures begin: a split file, or CSV video,offset_seconds"),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="of several models: w1,w2,... in their order, above 0 [default: equal]")
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(help="of several models: segments whose temporal IoU exceeds it overlap [default: 0.5]"),
    ] = None,
    denominator: Annotated[
        Literal["all", "present"] | None,
        typer.Option(
            help="of several models: whose weights divide the weighted sum of confidences: of all, or of"
            " those that found the segment [default: all]"
        ),
    ] = None,
    method: Annotated[
        Literal["paper", "wbf", "nms", "soft-nms-linear", "soft-nms-gaussian"] | None,
        typer.Option(help="of several models: what becomes of overlapping segments [default: paper]"),
    ] = None,
    ensemble: Annotated[
        Path | None, typer.Option(help="ensemble.toml: bundles, weights and options, as tsm-fuse reads it")
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
    min_score: Annotated[
        float | None,
        typer.Option(
            help="drop segments below this score; of several models candidates and fused segments, as"
            " tsm-fuse [default: 0]",
            min=0,
            max=1,
        ),
    ] = None,
    smoothing: Annotated[
        float | None,
        typer.Option(
            help="seconds over which scores are averaged; 0: none; live: labels are half of it later"
            " [default: the bundle's]",
            min=0,
        ),
    ] = None,
    min_duration: Annotated[
        float | None,
        typer.Option(help="drop segments shorter than so many seconds [default: the bundle's]", min=0),
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(
            help="seconds around an interval's middle that its frames are from; 0: the interval"
            " [default: the bundle's]",
            min=0,
        ),
    ] = None,
    stride: Annotated[
        float | None,
        typer.Option(
            help="seconds from one interval to the next, a whole part of its length; 0: they do not overlap"
            " [default: the bundle's]",
            min=0,
        ),
    ] = None,
    start: Annotated[float, typer.Option(help="begin at this second of the video", min=0)] = 0.0,
    end: Annotated[
        float | None, typer.Option(help="stop at this second [default: the video's end]", min=0)
    ] = None,
    video_id: Annotated[
        str | None, typer.Option("--id", help="name of the one video in the output [default: its file name]")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            help="clips per call of the model [default: 1 on a CPU, more on a GPU; live: up to 8 if late]",
            min=1,
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="videos at a time, whose clips share batches [default: 1 on a CPU, 1 for every 4 cores"
            " beside a GPU]",
            min=1,
            max=64,
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="threads of the model [default: all cores]", min=1)
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8"] | None,
        typer.Option(
            help="which of the bundle's models [default: fp16 on a GPU, fp32 on the CPU]; bf16: the fp32 one"
            " in bfloat16, on openvino and a CPU that has it"
        ),
    ] = None,
    backend: Annotated[
        Literal["auto", "onnxruntime", "onnxruntime-cuda", "openvino", "tensorrt"] | None,
        typer.Option(
            help="what runs it; auto: the fastest of a plan that runs here, onnxruntime on a GPU, and the CPU"
            " [default: auto]"
        ),
    ] = None,
    hwdec: Annotated[
        Literal["none", "auto", "cuda"],
        typer.Option(
            help="decode on the GPU (NVDEC), for --backend tensorrt and onnxruntime-cuda, frames stay there;"
            " auto: if that works, else on the CPU, and says so"
        ),
    ] = "none",
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="build a plan anew that is for another GPU or version, and keep it"),
    ] = False,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="run on a stream: rtsp://... and other addresses, /dev/video0, - (a pipe) or a file;"
            " JSON lines, each as soon as it is known, to stdout or appended to --output",
        ),
    ] = False,
    show_open: Annotated[
        bool, typer.Option("--open", help="live: also tell segments that are not over")
    ] = False,
    drop: Annotated[
        Literal["oldest", "none"] | None,
        typer.Option(
            help="live, when the machine is too slow: drop the oldest intervals, or none, so that the source"
            " has to wait [default: oldest; none for pipes and files]"
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="live: a network stream silent for so many seconds is lost [default: 10]", min=0.1),
    ] = None,
    reconnect: Annotated[
        float | None,
        typer.Option(help="live: seconds to try to get a lost stream back [default: for ever]", min=0),
    ] = None,
    pace: Annotated[
        bool, typer.Option("--pace", help="live: play a file at its own speed, as a camera would")
    ] = False,
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
    if not (videos or capture or view):
        raise UsageError("no video given; try: tsm-run VIDEO, or tsm-run --demo")
    from tsm_runtime.backends.choice import BackendRequest
    from tsm_runtime.members import ModelRequest, check_one_view, choose_models
    from tsm_runtime.options import Overrides

    chosen, notice = choose_models(
        ModelRequest(
            models=tuple(model or ()),
            ensemble=ensemble,
            weights=weights,
            iou=iou,
            denominator=denominator,
            method=method,
            min_score=min_score,
        )
    )
    if not (capture or view):
        check_one_view(chosen)
        if offsets is not None:
            raise UsageError("--offsets is for captures: give --capture")
    overrides = Overrides(
        smoothing_seconds=smoothing,
        min_duration_seconds=min_duration,
        window_seconds=window,
        stride_seconds=stride,
    )
    engine = BackendRequest(
        backend=backend or "auto",
        precision=precision,
        rebuild=rebuild,
        num_threads=threads,
        parallel_calls=1 if live else 2,
        tell=not live and not quiet and (backend == "auto" or is_terminal(sys.stderr)),
    )
    if live:
        from tsm_runtime.live.command import LiveRequest, run_live

        stream = LiveRequest(
            sources=tuple(videos or ()),
            for_files={
                "--capture": capture or None,
                "--view": view or None,
                "--format": format_ if format_ != "jsonl" else None,
                "--label-map": label_map,
                "--overlay": overlay,
                "--report": report,
                "--embed": embed or None,
                "--truth": truth,
                "--start": start or None,
                "--end": end,
                "--jobs": jobs,
                "--hwdec": None if hwdec == "none" else hwdec,
            },
            video_id=video_id,
            output=output,
            show_open=show_open,
            drop=drop,
            batch=batch,
            timeout=timeout,
            reconnect=reconnect,
            pace=pace,
            quiet=quiet,
        )
        raise typer.Exit(run_live(stream, chosen, engine, overrides, notice))
    from tsm_runtime.file_run import FileRequest, run_files

    files = FileRequest(
        videos=tuple(videos or ()),
        for_streams={
            "--open": show_open or None,
            "--drop": drop,
            "--timeout": timeout,
            "--reconnect": reconnect,
            "--pace": pace or None,
        },
        video_id=video_id,
        output=output,
        format=format_,
        label_map=label_map,
        overlay=overlay,
        report=report,
        embed=embed,
        truth=truth,
        start=start,
        end=end,
        batch=batch,
        jobs=jobs,
        hwdec=hwdec,
        quiet=quiet,
    )
    if capture or view:
        from tsm_runtime.capture_run import CaptureRequest, run_captures

        asked = CaptureRequest(
            files=files, captures=tuple(capture or ()), views=tuple(view or ()), offsets=offsets
        )
        raise typer.Exit(run_captures(asked, chosen, engine, overrides, notice))
    raise typer.Exit(run_files(files, chosen, engine, overrides, notice))


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-run")
