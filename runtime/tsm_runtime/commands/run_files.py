"""`tsm-run` on files and captures: check the options, open the models, write each result."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import msgspec

from tsm_runtime.archive.addresses import is_remote
from tsm_runtime.archive.ledger import Ledger, open_ledger
from tsm_runtime.archive.remote_output import remote_output
from tsm_runtime.archive.scratch import scratch_folder
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.captures.selection import CapturePlan
from tsm_runtime.commands.checked_run import CheckedRun
from tsm_runtime.commands.choose_models import check_one_view, choose_models
from tsm_runtime.commands.encoding import encoding_for
from tsm_runtime.commands.file_request import FileRequest
from tsm_runtime.commands.run_all import run_all
from tsm_runtime.commands.run_archive import interrupted_by_sigterm, is_archive, run_settings
from tsm_runtime.commands.run_inputs import check_outputs, find_inputs
from tsm_runtime.commands.run_ray import run_on_ray
from tsm_runtime.commands.write_outcomes import Losses
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.models.device_models import DeviceModels, open_device_models
from tsm_runtime.models.member import Member
from tsm_runtime.models.opening import load_bundles
from tsm_runtime.outputs.base import Sink
from tsm_runtime.outputs.cuts.sink import CutSink
from tsm_runtime.outputs.metrics import serving_if
from tsm_runtime.outputs.output_names import check_writable
from tsm_runtime.outputs.overlay import OverlaySink
from tsm_runtime.outputs.report.about import describe_run_for_page
from tsm_runtime.outputs.report.sink import ReportSink
from tsm_runtime.outputs.score_file import with_features, with_scores
from tsm_runtime.outputs.sinks import Encoding, open_sink
from tsm_runtime.outputs.summary.sink import SummarySink
from tsm_runtime.pipeline.description import describe_run
from tsm_runtime.pipeline.isolation import Isolation
from tsm_runtime.terminal import is_terminal, log_event, printable, warn


def run_files(request: FileRequest) -> int:
    """Find the segments of all videos or captures; return the exit code.

    0: all were written. 1: some videos or captures failed, the others were written. 3: none gave a result.

    Raises:
        TsmError: what a user can cause, before the first video is read.
    """
    ensemble, notice = choose_models(request.model, request.fusion, request.min_score)
    if not request.captures.given:
        check_one_view(ensemble)
    backend = request.machine.backend_request(quiet=request.quiet)
    with ExitStack() as held:
        if request.outputs.output is not None and is_remote(request.outputs.output):
            continues = request.archive.request().continues
            local = held.enter_context(remote_output(request.outputs.output, resume=continues))
            request = replace(request, outputs=replace(request.outputs, output=local))
        scratch = held.enter_context(scratch_folder(int(request.scratch * 2**30)))
        bundles = load_bundles(ensemble)
        inputs = find_inputs(request, ensemble, bundles, scratch)
        run = CheckedRun(
            request=request,
            ensemble=ensemble,
            backend=backend,
            bundles=bundles,
            inputs=inputs,
            scratch=scratch,
            page=check_outputs(request, inputs.plans),
            notice=notice,
        )
        return _run_checked(run)


def _run_checked(run: CheckedRun) -> int:
    request, inputs = run.request, run.inputs
    for line in (*map(str, inputs.errors), *(() if request.quiet else inputs.warnings)):
        warn(line)
    if not inputs.plans:
        return VideoError.exit_code
    check_writable(request.outputs.output)
    archive = request.archive.request()
    with interrupted_by_sigterm(), serving_if(run.metrics, request.metrics):
        if not is_archive(request):
            share = [plan for plan in inputs.plans if archive.shard.holds(plan.capture_id)]
            return _run_plans(run, share, None)
        folder, format_ = Path(str(request.outputs.output)), request.outputs.chosen_format
        settings, content = run_settings(run), run.scratch.content
        with open_ledger(folder, inputs.plans, archive, settings, format_, content) as ledger:
            return _run_ledger(run, ledger)


def _run_ledger(run: CheckedRun, ledger: Ledger) -> int:
    """Run what the ledger has chosen, and write the summary; return the exit code."""
    for note in () if run.request.quiet else ledger.choice.notes:
        warn(printable(note))
    try:
        code = _run_plans(run, ledger.choice.todo, ledger) if ledger.choice.todo else 0
    finally:
        summary = ledger.write_summary()
        log_event("run ended", **msgspec.structs.asdict(summary))
        if not run.request.quiet:
            warn(summary.line())
    if not ledger.choice.done and ledger.num_plans and summary.failed == ledger.num_plans:
        return VideoError.exit_code
    return code if code and code != VideoError.exit_code else int(bool(summary.failed or run.inputs.errors))


def _run_plans(run: CheckedRun, plans: Sequence[CapturePlan], ledger: Ledger | None) -> int:
    """Run some plans on this machine or on a cluster; return the exit code."""
    if not plans:
        return 0
    run.metrics.num_videos = len(plans)
    cluster = run.request.cluster.request()
    if cluster is not None:
        lost = run_on_ray(run, cluster, plans, ledger)
    else:
        lost = _run_here(run, plans, ledger)
        if is_terminal(sys.stderr) and not run.request.quiet:
            for line in lost.summary(len(plans), counts=ledger is None):
                warn(printable(line))
    return lost.exit_code(len(plans), any_failed=bool(run.inputs.errors))


def _run_here(run: CheckedRun, plans: Sequence[CapturePlan], ledger: Ledger | None) -> Losses:
    """Open the models and run some plans."""
    request = run.request
    run.scratch.begin([video.path for plan in plans for video, _ in plan.begins])
    with ExitStack() as held:
        first, *others = _open(run, held)
        bundles = [bundle for bundle, views in zip(run.bundles, run.inputs.views, strict=True) for _ in views]
        encoding = encoding_for(run, describe_run(bundles, first.members, run.options))
        sink = _sink(run, encoding, first.members)
        if run.notice:
            warn(run.notice)
        limits = request.isolation.limits()
        if others and limits is not None:
            raise UsageError("--isolate decodes for one GPU: name one with --device")
        workers = held.enter_context(Isolation(limits))
        return run_all(
            plans,
            [first, *others],
            run.options,
            sink,
            jobs=request.machine.jobs,
            quiet=request.quiet,
            isolation=None if limits is None else workers,
            ledger=ledger,
            metrics=run.metrics,
            fetched=run.scratch.local,
        )


def _open(run: CheckedRun, held: ExitStack) -> list[DeviceModels]:
    """Open the models, and the decoder of the GPU, on each device."""
    found: list[DeviceModels] = []
    machine, overrides = run.request.machine, run.request.overrides()
    for number in machine.devices:
        backend = replace(run.backend, device=number)
        opened = open_device_models(
            run.ensemble, run.bundles, run.inputs.views, backend, overrides, machine.hwdec, held
        )
        found.append(opened)
        if opened.on_cpu:
            break  # a second copy would share the same cores
    return found


def _sink(run: CheckedRun, encoding: Encoding, members: Sequence[Member]) -> Sink:
    request, outputs, plans = run.request, run.request.outputs, run.inputs.plans
    sink = open_sink(outputs.output, outputs.format, encoding)
    if outputs.overlay is not None:
        videos = {plan.capture_id: plan.named.path for plan in plans}
        sink = OverlaySink(sink, videos, outputs.overlay, quiet=request.quiet)
    if outputs.summary:
        sink = SummarySink(sink, outputs.summary, encoding.labels)
    if (cuts := outputs.cuts()) is not None:
        sink = CutSink(sink, cuts, [plan.named for plan in plans])
    if request.scores is not None:
        sink = with_scores(sink, request.scores, members)
    if request.features is not None:
        sink = with_features(sink, request.features, members, run.bundles)
    if run.page is None:
        return sink
    about = describe_run_for_page(encoding.external_data, [str(bundle.path) for bundle in run.bundles])
    return ReportSink(sink, run.page, members, about, _caveats(run.bundles))


def _caveats(bundles: Sequence[Bundle]) -> list[str]:
    demo = demo_folder() / "bundle"
    if not any(bundle.path.resolve() == demo.resolve() for bundle in bundles):
        return []
    return ["Made with the embedded demo model, which knows drawn figures only: try your own with --model."]
