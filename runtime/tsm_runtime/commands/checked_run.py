"""A run on files or captures whose options are checked and whose inputs are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tsm_runtime.archive.scratch import Scratch
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.commands.file_request import FileRequest
from tsm_runtime.commands.run_inputs import Inputs
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.models.choice import BackendRequest
from tsm_runtime.outputs.metrics import RunMetrics
from tsm_runtime.outputs.report.sink import ReportRequest
from tsm_runtime.pipeline.options import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRun:
    """What a run on files or captures needs before its models are opened.

    Args:
        request: the options of the command.
        ensemble: its models; there may be one alone.
        backend: requested for them.
        bundles: one for each member of the ensemble.
        inputs: videos or captures, and the views that each member sees.
        scratch: folder for copies of videos from addresses.
        page: the report to write; None: none.
        notice: to be shown when the models are open.
        metrics: counts what is done.
    """

    request: FileRequest
    ensemble: Ensemble
    backend: BackendRequest
    bundles: Sequence[Bundle]
    inputs: Inputs
    scratch: Scratch
    page: ReportRequest | None = None
    notice: str | None = None
    metrics: RunMetrics = field(default_factory=RunMetrics)

    @property
    def options(self) -> Options:
        """The options of the pipeline."""
        return self.request.options(self.ensemble, sum(map(len, self.inputs.views)))
