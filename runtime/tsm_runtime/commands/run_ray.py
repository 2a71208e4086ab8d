"""`tsm-run --ray`: the same run on a Ray cluster."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from tsm_runtime.archive.ledger import Ledger
from tsm_runtime.archive.ray_run import RayOptions, connected, ray_outcomes
from tsm_runtime.archive.rows import OutcomeRow
from tsm_runtime.captures.selection import CapturePlan
from tsm_runtime.commands.checked_run import CheckedRun
from tsm_runtime.commands.encoding import encoding_for
from tsm_runtime.commands.write_outcomes import Losses, write_outcomes
from tsm_runtime.outputs.base import Sink
from tsm_runtime.outputs.sinks import open_sink
from tsm_runtime.pipeline.run import CaptureOutcome
from tsm_runtime.results import Result


def run_on_ray(
    run: CheckedRun, cluster: RayOptions, plans: Sequence[CapturePlan], ledger: Ledger | None
) -> Losses:
    """Run plans on a cluster, and write what comes back, in the plans' order where one file takes all.

    Raises:
        BackendError: Ray is not installed, or there is no cluster.
        RunError: the cluster was lost.
    """
    request = run.request
    encoding_for(run, {})  # a wrong --label-map is noticed first
    sink = _LateSink(run)
    absolute = [_absolute(plan) for plan in plans]
    given = {plan.capture_id: plan for plan in plans}
    sizes = (
        {}
        if ledger is None
        else {name: sum(c.size for c in cs) for name, cs in ledger.choice.contents.items()}
    )
    urls = {plan.capture_id: [run.scratch.url(video.path) for video, _ in plan.begins] for plan in plans}
    with connected(cluster) as ray:
        rows = ray_outcomes(
            ray,
            absolute,
            _predictor(run, cluster),
            cluster,
            urls=urls,
            sizes=sizes,
            in_order=not request.outputs.into_folder,
        )
        return write_outcomes(
            _described(rows, sink, given), sink, ledger=ledger, metrics=run.metrics, quiet=request.quiet
        )


def _predictor(run: CheckedRun, cluster: RayOptions) -> dict[str, object]:
    """Return the arguments of the actors' `Predictor`."""
    request = run.request
    members = tuple(
        msgspec.structs.replace(member, bundle=str(bundle.path.absolute()))
        for member, bundle in zip(run.ensemble.members, run.bundles, strict=True)
    )
    threads = run.backend.num_threads or max(1, round(cluster.worker_cpus))
    return {
        "bundle": msgspec.structs.replace(run.ensemble, members=members),
        "backend": replace(run.backend, num_threads=threads, announce=False),
        "overrides": request.overrides(),
        "options": run.options,
        "hwdec": request.machine.hwdec,
        "isolation": request.isolation.limits(),
        "views": run.inputs.views,
        "scratch_gibibytes": request.scratch,
        "bundle_sha256": [bundle.manifest_sha256 for bundle in run.bundles],
    }


def _absolute(plan: CapturePlan) -> CapturePlan:
    """Return a plan whose paths do not depend on the current folder."""
    begins = tuple((replace(video, path=video.path.absolute()), begin) for video, begin in plan.begins)
    return replace(plan, named=replace(plan.named, path=plan.named.path.absolute()), begins=begins)


def _described(
    rows: Generator[OutcomeRow], sink: _LateSink, given: Mapping[str, CapturePlan]
) -> Generator[CaptureOutcome]:
    for row in rows:
        sink.describe(row.described)
        yield replace(row.outcome, plan=given[row.outcome.plan.capture_id])


@dataclass(slots=True)
class _LateSink(Sink):
    """A sink that opens when the first actor has said what runs the models, which results name."""

    run: CheckedRun
    opened: Sink | None = None
    failures: list[tuple[str, str]] = field(default_factory=list)

    def describe(self, described: Mapping[str, object]) -> None:
        """Take the description of an actor; an empty one says nothing."""
        if self.opened is None and described:
            self._open(described)

    def add(self, result: Result) -> None:
        self._open({}).add(result)

    def fail(self, video_id: str, reason: str) -> None:
        if self.opened is None:
            self.failures.append((video_id, reason))
        else:
            self.opened.fail(video_id, reason)

    def close(self) -> None:
        if self.failures or self.opened is not None:
            self._open({}).close()

    def _open(self, described: Mapping[str, object]) -> Sink:
        if self.opened is None:
            outputs = self.run.request.outputs
            self.opened = open_sink(outputs.output, outputs.format, encoding_for(self.run, described))
            for video_id, reason in self.failures:
                self.opened.fail(video_id, reason)
            self.failures.clear()
        return self.opened
