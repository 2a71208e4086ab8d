"""`tsm-run --ray`: the same run on a Ray cluster."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from tsm_runtime.archive.ledger import Ledger
from tsm_runtime.archive.ray_run import RayOptions, connected, ray_outcomes
from tsm_runtime.archive.rows import OutcomeRow
from tsm_runtime.archive.scratch import Scratch
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.captures.selection import CapturePlan
from tsm_runtime.commands.encoding import encoding_for
from tsm_runtime.commands.file_request import FileRequest
from tsm_runtime.commands.run_archive import into_folder
from tsm_runtime.commands.write_outcomes import Losses, write_outcomes
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.models.choice import BackendRequest
from tsm_runtime.models.member import Overrides
from tsm_runtime.outputs.metrics import RunMetrics
from tsm_runtime.outputs.sinks import Sink, open_sink
from tsm_runtime.pipeline.run import CaptureOutcome
from tsm_runtime.results import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class RayRun:
    """What runs, as in a local run; `views` are those that each member of the ensemble sees."""

    request: FileRequest
    ray: RayOptions
    ensemble: Ensemble
    backend: BackendRequest
    overrides: Overrides
    bundles: Sequence[Bundle]
    views: Sequence[tuple[str, ...]]
    all_plans: Sequence[CapturePlan]
    scratch: Scratch

    def predictor(self) -> dict[str, object]:
        """Return the arguments of the actors' `Predictor`."""
        members = tuple(
            msgspec.structs.replace(member, bundle=str(bundle.path.absolute()))
            for member, bundle in zip(self.ensemble.members, self.bundles, strict=True)
        )
        threads = self.backend.num_threads or max(1, round(self.ray.worker_cpus))
        return {
            "bundle": msgspec.structs.replace(self.ensemble, members=members),
            "backend": replace(self.backend, num_threads=threads, tell=False),
            "overrides": self.overrides,
            "options": self.request.options(self.ensemble, sum(map(len, self.views))),
            "hwdec": self.request.machine.hwdec,
            "isolation": self.request.isolation,
            "views": self.views,
            "scratch_gibibytes": self.request.scratch_gibibytes,
            "bundle_sha256": [bundle.manifest_sha256 for bundle in self.bundles],
        }

    def open_sink(self, described: Mapping[str, object]) -> Sink:
        """Return where results go."""
        encoding = encoding_for(self.request, self.all_plans, self.bundles, described)
        return open_sink(self.request.outputs.output, self.request.outputs.format, encoding)


def run_on_ray(
    run: RayRun, plans: Sequence[CapturePlan], ledger: Ledger | None, metrics: RunMetrics
) -> Losses:
    """Run plans on a cluster, and write what comes back, in the plans' order where one file takes all.

    Raises:
        BackendError: Ray is not installed, or there is no cluster.
        RunError: the cluster was lost.
    """
    request = run.request
    encoding_for(request, run.all_plans, run.bundles, {})  # a wrong --label-map is noticed first
    sink = _LateSink(run)
    absolute = [_absolute(plan) for plan in plans]
    given = {plan.capture_id: plan for plan in plans}
    sizes = (
        {}
        if ledger is None
        else {name: sum(c.size for c in cs) for name, cs in ledger.choice.contents.items()}
    )
    urls = {plan.capture_id: [run.scratch.url(video.path) for video, _ in plan.begins] for plan in plans}
    with connected(run.ray) as ray:
        rows = ray_outcomes(
            ray,
            absolute,
            run.predictor(),
            run.ray,
            urls=urls,
            sizes=sizes,
            in_order=not into_folder(request),
        )
        return write_outcomes(
            _described(rows, sink, given), sink, ledger=ledger, metrics=metrics, quiet=request.quiet
        )


def _absolute(plan: CapturePlan) -> CapturePlan:
    """Return a plan whose paths do not depend on the current folder."""
    begins = tuple((replace(video, path=_full(video.path)), begin) for video, begin in plan.begins)
    return replace(plan, named=replace(plan.named, path=_full(plan.named.path)), begins=begins)


def _full(path: Path) -> Path:
    return path.absolute()


def _described(
    rows: Generator[OutcomeRow], sink: _LateSink, given: Mapping[str, CapturePlan]
) -> Generator[CaptureOutcome]:
    for row in rows:
        sink.describe(row.described)
        yield replace(row.outcome, plan=given[row.outcome.plan.capture_id])


@dataclass(slots=True)
class _LateSink:
    """A sink that opens when the first actor has said what runs the models, which results name."""

    run: RayRun
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
            self.opened = self.run.open_sink(described)
            for video_id, reason in self.failures:
                self.opened.fail(video_id, reason)
            self.failures.clear()
        return self.opened
