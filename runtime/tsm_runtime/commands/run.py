"""`tsm-run`: video files in, segments out."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import tsm_runtime.commands.run_options as options
from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.errors import UsageError
from tsm_runtime.terminal import is_terminal

# Imports of numpy, av and rich wait until they are needed: --help answers at once.

app = new_app()

_EXAMPLES = """tsm-run video.mp4 --model bundle -o video.json
tsm-run recordings/ --model bundle --output results/ --format csv
tsm-run --capture data/360x --model panoramic --model third_person -o fused.json"""


@command(app, examples=_EXAMPLES)
def tsm_run(
    context: typer.Context,
    videos: options.Videos = None,
    model: options.Models = None,
    capture: options.Captures = None,
    view: options.Views = None,
    offsets: options.Offsets = None,
    weights: options.Weights = None,
    iou: options.Iou = None,
    denominator: options.Denominator = None,
    method: options.Method = None,
    ensemble: options.Ensemble = None,
    output: options.Output = None,
    format_: options.FormatName = None,
    label_map: options.LabelMap = None,
    overlay: options.Overlay = None,
    report: options.Report = None,
    embed: options.Embed = False,
    truth: options.Truth = None,
    min_score: options.MinScore = None,
    smoothing: options.Smoothing = None,
    min_duration: options.MinDuration = None,
    window: options.Window = None,
    stride: options.Stride = None,
    decoding: options.DecodingMethod = None,
    scores: options.Scores = None,
    start: options.Start = 0.0,
    end: options.End = None,
    video_id: options.VideoId = None,
    batch: options.Batch = None,
    jobs: options.Jobs = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    backend: options.Backend = None,
    hwdec: options.Hwdec = "none",
    device: options.GpuNumber = 0,
    rebuild: options.Rebuild = False,
    rate: options.Rate = None,
    playlists: options.Playlists = False,
    resume: options.Resume = False,
    checksum: options.Checksum = False,
    retry_failed: options.RetryFailed = False,
    shard: options.ShardText = None,
    ids: options.IdKind = "auto",
    scratch: options.ScratchSize = 8.0,
    metrics: options.Metrics = None,
    log_json: options.LogJson = False,
    isolate: options.Isolate = False,
    memory_limit: options.MemoryLimit = None,
    time_limit: options.TimeLimit = None,
    ray: options.RayAddress = None,
    workers: options.Workers = 0,
    worker_cpus: options.WorkerCpus = 1.0,
    worker_gpus: options.WorkerGpus = 0.0,
    live: options.LiveAlias = False,
    demo: options.Demo = False,
    quiet: options.Quiet = False,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Find which action happens from when to when in videos, and in what scene."""
    if log_json:
        from tsm_runtime.commands.log_json import log_as_json

        log_as_json()
    if demo:
        from tsm_runtime.commands.demo import refuse_options, run_demo

        refuse_options(context)
        run_demo()
        return
    if not (videos or capture or view):
        raise UsageError("no video given; try: tsm-run VIDEO, or tsm-run --demo")
    from tsm_runtime.commands.choose_models import ModelRequest, check_one_view, choose_models
    from tsm_runtime.models.choice import BackendRequest
    from tsm_runtime.models.member import Overrides

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
        decoding=decoding,
    )
    engine = BackendRequest(
        backend=backend or "auto",
        precision=precision,
        rebuild=rebuild,
        num_threads=threads,
        parallel_calls=2,
        device=device,
        tell=not quiet and (backend == "auto" or is_terminal(sys.stderr)),
    )
    from tsm_runtime.archive.choice import ArchiveOptions
    from tsm_runtime.archive.ray_run import RayOptions
    from tsm_runtime.archive.shard import Shard
    from tsm_runtime.commands.file_request import FileRequest
    from tsm_runtime.commands.run_captures import CaptureRequest
    from tsm_runtime.commands.run_files import run_files
    from tsm_runtime.pipeline.isolation import Limits

    captures = CaptureRequest(captures=tuple(capture or ()), views=tuple(view or ()), offsets=offsets)
    files = FileRequest(
        videos=tuple(videos or ()),
        captures=captures if capture or view else None,
        video_id=video_id,
        output=output,
        format=format_,
        label_map=label_map,
        overlay=overlay,
        scores=scores,
        report=report,
        embed=embed,
        truth=truth,
        start=start,
        end=end,
        batch=batch,
        jobs=jobs,
        hwdec=hwdec,
        rate=rate,
        playlists=playlists,
        ids=ids,
        archive=ArchiveOptions(
            resume=resume,
            checksum=checksum,
            retry_failed=retry_failed,
            shard=Shard() if shard is None else Shard.parse(shard),
        ),
        metrics=metrics,
        scratch_gibibytes=scratch,
        isolation=Limits(memory_mebibytes=memory_limit, seconds=time_limit)
        if isolate or memory_limit is not None or time_limit is not None
        else None,
        ray=None
        if ray is None
        else RayOptions(address=ray, workers=workers, worker_cpus=worker_cpus, worker_gpus=worker_gpus),
        quiet=quiet,
    )
    raise typer.Exit(run_files(files, chosen, engine, overrides, notice))


def main() -> None:
    """Run the command; with `--live` anywhere this is `tsm-live`."""
    if "--live" in sys.argv[1:]:
        from tsm_runtime.commands.live import app as live_app

        sys.argv.remove("--live")
        run_command(live_app, "tsm-run --live")
    run_command(app, "tsm-run")
