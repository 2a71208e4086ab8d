"""`tsm-run` on files and captures: check the options, open the models, write each result."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from tsm_runtime.archive.addresses import is_remote
from tsm_runtime.archive.ledger import Ledger, open_ledger
from tsm_runtime.archive.remote_output import remote_output
from tsm_runtime.archive.scratch import Scratch, scratch_folder
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.captures.selection import CapturePlan
from tsm_runtime.commands.encoding import encoding_for
from tsm_runtime.commands.file_request import FileRequest
from tsm_runtime.commands.run_all import DeviceModels, run_all
from tsm_runtime.commands.run_archive import interrupted_by_sigterm, is_archive, run_settings
from tsm_runtime.commands.run_inputs import Inputs, check_outputs, find_inputs
from tsm_runtime.commands.run_ray import RayRun, run_on_ray
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.models.choice import BackendRequest
from tsm_runtime.models.member import Member, Overrides
from tsm_runtime.models.nvdec import open_nvdec
from tsm_runtime.models.opening import closing_members, load_bundles, open_members
from tsm_runtime.outputs.cuts.sink import with_cuts
from tsm_runtime.outputs.metrics import RunMetrics, serving_if
from tsm_runtime.outputs.overlay import with_overlay
from tsm_runtime.outputs.report.about import describe_run_for_page
from tsm_runtime.outputs.report.sink import ReportRequest, with_report
from tsm_runtime.outputs.score_file import with_features, with_scores
from tsm_runtime.outputs.sinks import (
    Encoding,
    Sink,
    check_writable,
    choose_format,
    open_sink,
)
from tsm_runtime.outputs.summary.sink import with_summary
from tsm_runtime.pipeline.description import describe_run
from tsm_runtime.pipeline.isolation import Isolation
from tsm_runtime.terminal import is_terminal, log_event, printable, warn


def run_files(
    request: FileRequest,
    ensemble: Ensemble,
    backend: BackendRequest,
    overrides: Overrides,
    notice: str | None,
) -> int:
    """Find the segments of all videos or captures; return the exit code.

    0: all were written. 1: some videos or captures failed, the others were written. 3: none gave a result.

    Raises:
        TsmError: what a user can cause, before the first video is read.
    """
    with ExitStack() as held:
        if request.outputs.output is not None and is_remote(request.outputs.output):
            local = held.enter_context(
                remote_output(request.outputs.output, resume=request.archive.continues)
            )
            request = replace(request, outputs=replace(request.outputs, output=local))
        scratch = held.enter_context(scratch_folder(int(request.scratch_gibibytes * 2**30)))
        return _run_files(request, ensemble, backend, overrides, notice, scratch)


def _run_files(
    request: FileRequest,
    ensemble: Ensemble,
    backend: BackendRequest,
    overrides: Overrides,
    notice: str | None,
    scratch: Scratch,
) -> int:
    bundles = load_bundles(ensemble)
    inputs = find_inputs(request, ensemble, bundles, scratch)
    page = check_outputs(request, inputs.plans)
    for line in (*map(str, inputs.errors), *(() if request.quiet else inputs.warnings)):
        warn(line)
    if not inputs.plans:
        return VideoError.exit_code
    check_writable(request.outputs.output)
    run = _Run(request, ensemble, backend, overrides, bundles, inputs, page, notice, scratch)
    with interrupted_by_sigterm(), serving_if(run.metrics, request.metrics):
        if not is_archive(request):
            return run.all_of(_own_share(inputs.plans, request), None)
        settings = run_settings(request, ensemble, backend, overrides, bundles, inputs.views)
        format_ = choose_format(request.outputs.output, request.outputs.format)
        folder = Path(str(request.outputs.output))
        with open_ledger(folder, inputs.plans, request.archive, settings, format_, scratch.content) as ledger:
            return run.of_ledger(ledger)


def _own_share(plans: Sequence[CapturePlan], request: FileRequest) -> list[CapturePlan]:
    return [plan for plan in plans if request.archive.shard.holds(plan.capture_id)]


@dataclass(frozen=True, slots=True)
class _Run:
    """A run whose options are checked."""

    request: FileRequest
    ensemble: Ensemble
    backend: BackendRequest
    overrides: Overrides
    bundles: Sequence[Bundle]
    inputs: Inputs
    page: ReportRequest | None
    notice: str | None
    scratch: Scratch
    metrics: RunMetrics = field(default_factory=RunMetrics)

    def of_ledger(self, ledger: Ledger) -> int:
        """Run what the ledger has chosen, and write the summary; return the exit code."""
        for note in () if self.request.quiet else ledger.choice.notes:
            warn(printable(note))
        try:
            code = self.all_of(ledger.choice.todo, ledger) if ledger.choice.todo else 0
        finally:
            summary = ledger.write_summary()
            log_event("run ended", **msgspec.structs.asdict(summary))
            if not self.request.quiet:
                warn(summary.line())
        if not ledger.choice.done and ledger.num_plans and summary.failed == ledger.num_plans:
            return VideoError.exit_code
        return (
            code if code and code != VideoError.exit_code else int(bool(summary.failed or self.inputs.errors))
        )

    def all_of(self, plans: Sequence[CapturePlan], ledger: Ledger | None) -> int:
        """Open the models and run some plans; return the exit code."""
        request, inputs = self.request, self.inputs
        if not plans:
            return 0
        self.metrics.num_videos = len(plans)
        if request.ray is not None:
            return run_on_ray(
                RayRun(
                    request=request,
                    ray=request.ray,
                    ensemble=self.ensemble,
                    backend=self.backend,
                    overrides=self.overrides,
                    bundles=self.bundles,
                    views=inputs.views,
                    all_plans=inputs.plans,
                    scratch=self.scratch,
                ),
                plans,
                ledger,
                self.metrics,
            ).exit_code(len(plans), any_failed=bool(inputs.errors))
        self.scratch.begin([video.path for plan in plans for video, _ in plan.begins])
        options = request.options(self.ensemble, sum(map(len, inputs.views)))
        with ExitStack() as held:
            first, *others = self._open(held)
            members = first.members
            described = describe_run(
                [bundle for bundle, views in zip(self.bundles, inputs.views, strict=True) for _ in views],
                members,
                options,
            )
            encoding = encoding_for(request, inputs.plans, self.bundles, described)
            sink = self._sink(encoding, members)
            if self.notice:
                warn(self.notice)
            limits = request.isolation
            if others and limits is not None:
                raise UsageError("--isolate decodes for one GPU: name one with --device")
            workers = held.enter_context(Isolation(limits))
            lost = run_all(
                plans,
                members,
                options,
                sink,
                jobs=request.machine.jobs,
                quiet=request.quiet,
                nvdec=first.nvdec,
                others=others,
                isolation=None if limits is None else workers,
                ledger=ledger,
                metrics=self.metrics,
                fetched=self.scratch.local,
            )
        if is_terminal(sys.stderr) and not request.quiet:
            for line in lost.summary(len(plans), counts=ledger is None):
                warn(printable(line))
        return lost.exit_code(len(plans), any_failed=bool(inputs.errors))

    def _open(self, held: ExitStack) -> list[DeviceModels]:
        """Open the models, and the decoder of the GPU, on each device."""
        found: list[DeviceModels] = []
        for device in self.request.machine.devices:
            request = replace(self.backend, device=device)
            opened = held.enter_context(
                closing_members(open_members(self.ensemble, self.bundles, request, self.overrides))
            )
            decoder = open_nvdec(
                self.request.machine.hwdec, self.bundles, opened, device, rebuild=request.rebuild
            )
            nvdec = held.enter_context(decoder or nullcontext())
            members = [
                replace(member, view=view)
                for member, views in zip(opened, self.inputs.views, strict=True)
                for view in views
            ]
            found.append(DeviceModels(members, nvdec))
            if any(member.backend.device == "cpu" for member in members):
                break  # a second copy would share the same cores
        return found

    def _sink(self, encoding: Encoding, members: Sequence[Member]) -> Sink:
        request = self.request
        sink = open_sink(request.outputs.output, request.outputs.format, encoding)
        if request.outputs.overlay is not None:
            videos = {plan.capture_id: plan.named.path for plan in self.inputs.plans}
            sink = with_overlay(sink, videos, request.outputs.overlay, quiet=request.quiet)
        if request.outputs.summary:
            sink = with_summary(sink, request.outputs.summary, encoding.labels)
        if (cuts := request.outputs.cuts()) is not None:
            sink = with_cuts(sink, cuts, [plan.named for plan in self.inputs.plans])
        if request.scores is not None:
            sink = with_scores(sink, request.scores, members)
        if request.features is not None:
            sink = with_features(sink, request.features, members, self.bundles)
        if self.page is None:
            return sink
        names = [str(bundle.path) for bundle in self.bundles]
        about = describe_run_for_page(encoding.external_data, names)
        return with_report(sink, self.page, members, about, _caveats(self.bundles))


def _caveats(bundles: Sequence[Bundle]) -> list[str]:
    demo = demo_folder() / "bundle"
    if not any(bundle.path.resolve() == demo.resolve() for bundle in bundles):
        return []
    return ["Made with the embedded demo model, which knows drawn figures only: try your own with --model."]
