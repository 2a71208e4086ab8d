"""`tsm-run`: video files in, segments out."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import tsm_runtime.commands.run_options as options
from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.commands.option_groups import (
    ArchiveFlags,
    CaptureFlags,
    FusionFlags,
    IsolationFlags,
    MachineFlags,
    OutputFlags,
    PartFlags,
    RayFlags,
    ScoreFlags,
)
from tsm_runtime.errors import UsageError

# numpy, av and rich are imported where they are needed: --help answers at once.

app = new_app()

_EXAMPLES = """tsm-run video.mp4 --model bundle -o video.json
tsm-run recordings/ --model bundle --output results/ --format csv
tsm-run --capture data/360x --model panoramic --model third_person -o fused.json"""


@command(app, examples=_EXAMPLES)
def tsm_run(
    *,
    context: typer.Context,
    videos: options.Videos = None,
    model: options.Models = None,
    captures: CaptureFlags,
    fusion: FusionFlags,
    outputs: OutputFlags,
    min_score: options.MinScore = None,
    around: ScoreFlags,
    flip: options.Flip = False,
    decoding: options.DecodingMethod = None,
    scores: options.Scores = None,
    features: options.Features = None,
    part: PartFlags,
    machine: MachineFlags,
    archive: ArchiveFlags,
    ids: options.IdKind = "auto",
    scratch: options.ScratchSize = 8.0,
    metrics: options.Metrics = None,
    log_json: options.LogJson = False,
    isolation: IsolationFlags,
    cluster: RayFlags,
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
    if not (videos or captures.given):
        raise UsageError("no video given; try: tsm-run VIDEO, or tsm-run --demo")
    from tsm_runtime.commands.choose_models import check_one_view, choose_models

    chosen, notice = choose_models(fusion.request(model, min_score))
    if not captures.given:
        check_one_view(chosen)
        if captures.offsets is not None:
            raise UsageError("--offsets is for captures: give --capture")
    overrides = around.overrides(decoding, flip=flip)
    if flip and machine.hwdec != "none":
        raise UsageError(f"--flip mirrors frames in main memory: leave out --hwdec {machine.hwdec}")
    backend = machine.backend_request(quiet=quiet)
    from tsm_runtime.commands.file_request import FileRequest
    from tsm_runtime.commands.run_files import run_files

    requested_captures = captures.request()
    files = FileRequest(
        videos=tuple(videos or ()),
        captures=requested_captures if captures.given else None,
        outputs=outputs,
        scores=scores,
        features=features,
        part=part,
        machine=machine,
        ids=ids,
        archive=archive.request(),
        metrics=metrics,
        scratch_gibibytes=scratch,
        isolation=isolation.limits(),
        ray=cluster.request(),
        quiet=quiet,
    )
    raise typer.Exit(run_files(files, chosen, backend, overrides, notice))


def main() -> None:
    """Run the command; with `--live` anywhere this is `tsm-live`."""
    if "--live" in sys.argv[1:]:
        from tsm_runtime.commands.live import app as live_app

        sys.argv.remove("--live")
        run_command(live_app, "tsm-run --live")
    run_command(app, "tsm-run")
