"""The run of plans on one device or several, and the writing of what comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

from tsm_runtime.archive.ledger import Ledger
from tsm_runtime.captures.selection import CapturePlan
from tsm_runtime.commands.progress import progress_bars
from tsm_runtime.commands.write_outcomes import Losses, write_outcomes
from tsm_runtime.machine import num_cores
from tsm_runtime.models.device_models import DeviceModels
from tsm_runtime.outputs.base import Sink
from tsm_runtime.outputs.metrics import RunMetrics
from tsm_runtime.pipeline.devices import run_shared
from tsm_runtime.pipeline.isolation import Isolation
from tsm_runtime.pipeline.jobs import decoding_jobs
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.reading import Reading, is_there
from tsm_runtime.pipeline.run import run_captures


def run_all(
    plans: Sequence[CapturePlan],
    devices: Sequence[DeviceModels],
    options: Options,
    sink: Sink,
    *,
    jobs: int | None = None,
    quiet: bool = False,
    isolation: Isolation | None = None,
    ledger: Ledger | None = None,
    metrics: RunMetrics | None = None,
    fetched: Callable[[Path], AbstractContextManager[None]] = is_there,
) -> Losses:
    """Run videos or captures, each video decoded once for all members, and pass the results to the sink.

    Args:
        plans: what to run on, in the order of the results.
        devices: the same models on each device, which share the plans; they are left open.
        options: which part of the videos, and what to keep.
        sink: takes the results.
        jobs: videos at a time; default: `default_jobs`.
        quiet: show no progress and no warnings.
        isolation: decodes in other processes.
        ledger: keeps the books of an archive; there a result that cannot be written costs this video alone.
        metrics: count what is done.
        fetched: see `pipeline.reading.Reading`.

    Returns:
        How many gave no result; each is reported on standard error.
    """
    with ExitStack() as held:
        bars = None if quiet else held.enter_context(progress_bars(options, len(plans)))
        lanes = [
            partial(
                run_captures,
                members=device.members,
                options=options,
                reading=Reading(
                    jobs=jobs or default_jobs(device),
                    nvdec=device.nvdec,
                    isolation=isolation,
                    fetched=fetched,
                ),
            )
            for device in devices
        ]
        progress = None if bars is None else bars.report
        meter = None if metrics is None else metrics.meter
        if len(lanes) > 1:
            outcomes = run_shared(plans, lanes, progress=progress, meter=meter)
        else:
            outcomes = lanes[0](plans, progress=progress, meter=meter)
        return write_outcomes(outcomes, sink, ledger=ledger, bars=bars, metrics=metrics, quiet=quiet)


def default_jobs(device: DeviceModels) -> int:
    """Return how many videos to decode at a time on this machine."""
    return decoding_jobs(
        on_gpu=not device.on_cpu,
        cores=num_cores(),
        nvdec=device.nvdec is not None,
        engines=None if device.nvdec is None else device.nvdec.num_engines,
    )
