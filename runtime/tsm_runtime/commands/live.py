"""`tsm-live`: streams in, segments out as JSON lines."""

from __future__ import annotations

import math
from typing import Annotated

import typer

import tsm_runtime.commands.live_options as live_options
import tsm_runtime.commands.run_options as options
from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.commands.option_groups import FusionFlags, ScoreFlags

# Imports of numpy, av and rich are delayed until they are needed: --help answers at once.

app = new_app()


@command(app)
def tsm_live(
    *,
    sources: live_options.Sources = None,
    streams: live_options.Streams = None,
    model: options.Models = None,
    fusion: FusionFlags,
    output: live_options.Output = None,
    show_open: live_options.ShowOpen = False,
    min_score: options.MinScore = None,
    around: ScoreFlags,
    decoding: options.DecodingMethod = None,
    lookahead: live_options.Lookahead = None,
    video_id: live_options.VideoId = None,
    drop: live_options.Drop = None,
    timeout: live_options.Timeout = 10.0,
    reconnect: live_options.Reconnect = None,
    pace: live_options.Pace = False,
    rate: live_options.Rate = None,
    batch: live_options.Batch = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    backend: options.Backend = None,
    rebuild: options.Rebuild = False,
    metrics: options.Metrics = None,
    log_json: options.LogJson = False,
    json: live_options.Json = False,
    quiet: live_options.Quiet = False,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Find which action happens from when to when in streams: JSON lines, each as soon as it is known."""
    if log_json:
        from tsm_runtime.commands.log_json import log_as_json

        log_as_json()
    from tsm_runtime.commands.choose_models import check_one_view, choose_models
    from tsm_runtime.commands.run_live import LiveRequest, run_live
    from tsm_runtime.models.choice import BackendRequest

    chosen, notice = choose_models(fusion.request(model, min_score))
    check_one_view(chosen)
    request = LiveRequest(
        sources=tuple(sources or ()),
        streams=streams,
        json=json,
        video_id=video_id,
        output=output,
        show_open=show_open,
        lookahead=lookahead,
        drop=drop,
        batch=batch,
        timeout=timeout,
        reconnect=math.inf if reconnect is None else reconnect,
        pace=pace,
        rate=rate,
        metrics=metrics,
        quiet=quiet,
    )
    engine = BackendRequest(
        backend=backend or "auto", precision=precision, rebuild=rebuild, num_threads=threads
    )
    raise typer.Exit(run_live(request, chosen, engine, around.overrides(decoding), notice))


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-live")
