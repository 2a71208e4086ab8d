"""A class for `ray.data.Dataset.map_batches`: rows with the path of a video in, rows with its segments out.

    import ray
    from tsm_runtime.archive.predictor import Predictor

    videos = ray.data.read_parquet("manifest.parquet")  # a column `path`, and `id` if stems are not unique
    found = videos.map_batches(
        Predictor, fn_constructor_kwargs={"bundle": "bundle"}, batch_size=1, batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=8), num_cpus=2,
    )
    found.write_parquet("results")

Frames never pass through Ray: each actor opens the bundle once and decodes its own videos.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from tsm_runtime.archive.rows import OutcomeRow, failed_outcome, plans_of, portable, result_schema, row_of
from tsm_runtime.archive.scratch import Scratch, scratch_folder
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.captures.selection import CapturePlan
from tsm_runtime.errors import BundleError, TsmError
from tsm_runtime.formats.parquet import require_pyarrow
from tsm_runtime.fusion.ensemble_file import Ensemble, EnsembleMember
from tsm_runtime.models.choice import BackendRequest
from tsm_runtime.models.device_models import DeviceModels, open_device_models
from tsm_runtime.models.member import Overrides
from tsm_runtime.models.nvdec_opening import Hwdec
from tsm_runtime.models.opening import load_bundles
from tsm_runtime.pipeline.description import describe_run
from tsm_runtime.pipeline.isolation import Isolation, Limits
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.reading import Reading, is_there
from tsm_runtime.pipeline.run import CaptureOutcome, run_captures


class Predictor:
    """Finds the segments of videos; picklable, and opens its models with the first batch.

    Args:
        bundle: a bundle folder, or the members of an ensemble; every machine sees it under this path.
        backend, overrides, options, hwdec, isolation: as in a local run.
        views: views that each member sees; None: plain videos.
        bundle_sha256: hash of each member's bundle on the driver; a different one is an error of each video.
        keep_outcomes: add a column `outcome` for the driver, see `outcome_of_row`.
        scratch_gibibytes: room for copies of videos that are given by address.
    """

    def __init__(
        self,
        bundle: str | Path | Ensemble,
        *,
        backend: BackendRequest | None = None,
        overrides: Overrides | None = None,
        options: Options | None = None,
        hwdec: Hwdec = "none",
        isolation: Limits | None = None,
        views: Sequence[Sequence[str]] | None = None,
        bundle_sha256: Sequence[str] = (),
        keep_outcomes: bool = False,
        scratch_gibibytes: float = 8.0,
    ) -> None:
        self._ensemble = bundle if isinstance(bundle, Ensemble) else _ensemble_of(bundle)
        self._backend = backend or BackendRequest(num_threads=1)
        self._overrides = overrides or Overrides()
        self._options = options or Options()
        self._hwdec: Hwdec = hwdec
        self._isolation = None if isolation is None else Isolation(isolation)
        self._views = views
        self._expected = tuple(bundle_sha256)
        self._keep_outcomes = keep_outcomes
        self._scratch_bytes = int(scratch_gibibytes * 2**30)
        self._scratch: Scratch | None = None
        self._held = ExitStack()  # for as long as the actor lives
        self._opened: tuple[list[Bundle], DeviceModels] | None = None

    def __call__(self, batch: Any) -> Iterator[Any]:
        """Yield a table of one row for each row of the batch.

        Args:
            batch: a pyarrow table or a mapping of columns: `path`, a path or an address, and optionally `id`;
                or the rows of `plan_row`.
        """
        given = plans_of(batch)
        plans, done = [plan for plan, _ in given], 0
        try:
            plans = [self._fetchable(plan, urls) for plan, urls in given]
            for outcome in self._outcomes(plans):
                yield self._table(outcome)
                done += 1
        except TsmError as error:
            for plan in plans[done:]:
                yield self._table(failed_outcome(plan, str(error)))

    def _fetchable(self, plan: CapturePlan, urls: Sequence[str]) -> CapturePlan:
        """Return a plan whose remote videos have paths in this actor's scratch folder."""
        if not any(urls):
            return plan
        if self._scratch is None:
            self._scratch = self._held.enter_context(scratch_folder(self._scratch_bytes))
        begins = tuple(
            (replace(video, path=self._scratch.place(url) if url else video.path), begin)
            for (video, begin), url in zip(plan.begins, urls, strict=True)
        )
        (named,) = (new for (old, _), (new, _) in zip(plan.begins, begins, strict=True) if old == plan.named)
        return replace(plan, named=named, begins=begins)

    def _outcomes(self, plans: Sequence[CapturePlan]) -> Iterator[CaptureOutcome]:
        _, models = self._models()
        fetched = is_there
        if self._scratch is not None:
            self._scratch.begin([video.path for plan in plans for video, _ in plan.begins])
            fetched = self._scratch.local
        reading = Reading(nvdec=models.nvdec, isolation=self._isolation, fetched=fetched)
        yield from run_captures(plans, models.members, self._options, reading)

    def _models(self) -> tuple[list[Bundle], DeviceModels]:
        if self._opened is None:
            bundles = load_bundles(self._ensemble)
            for bundle, expected in zip(bundles, self._expected, strict=False):
                if bundle.manifest_sha256 != expected:
                    raise BundleError(f"{bundle.path}: another bundle than the one that the run began with")
            models = open_device_models(
                self._ensemble,
                bundles,
                self._views or [("",)] * len(bundles),
                self._backend,
                self._overrides,
                self._hwdec,
                self._held,
            )
            self._opened = bundles, models
        return self._opened

    def _table(self, outcome: CaptureOutcome) -> Any:
        bundles = self._opened[0] if self._opened is not None else []
        row = row_of(outcome, ",".join(bundle.manifest_sha256 for bundle in bundles))
        if self._keep_outcomes:
            row["outcome"] = pickle.dumps(OutcomeRow(portable(outcome), self._described()))
        pa = require_pyarrow()
        return pa.Table.from_pylist([row], schema=result_schema(outcomes=self._keep_outcomes))

    def _described(self) -> Mapping[str, object]:
        if self._opened is None:
            return {}
        bundles, models = self._opened
        views = self._views or [("",)] * len(bundles)
        repeated = [bundle for bundle, seen in zip(bundles, views, strict=True) for _ in seen]
        return describe_run(repeated, models.members, self._options)


def _ensemble_of(bundle: str | Path) -> Ensemble:
    return Ensemble(members=(EnsembleMember(bundle=os.fspath(bundle)),))
