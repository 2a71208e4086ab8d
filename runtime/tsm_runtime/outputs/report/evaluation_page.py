"""`tsm-eval --report`: an evaluation, and timelines of its videos, as one page."""

from __future__ import annotations

from pathlib import Path

from tsm_runtime.evaluation.reading import EvaluationInput
from tsm_runtime.evaluation.summary import EvaluationReport
from tsm_runtime.outputs.report.about import describe_evaluation_for_page
from tsm_runtime.outputs.report.comparison import OtherRun, beside, differences
from tsm_runtime.outputs.report.content import Report
from tsm_runtime.outputs.report.diagnosis_charts import diagnosis_charts
from tsm_runtime.outputs.report.evaluation_charts import chart_evaluation, prediction_videos
from tsm_runtime.outputs.report.page import write_report


def write_evaluation_page(
    path: Path,
    given: EvaluationInput,
    found: EvaluationReport,
    other: OtherRun | None = None,
    sources: tuple[str, str] = ("", ""),
) -> None:
    """Write the page of an evaluation.

    Args:
        path: path of the page.
        given: input of the evaluation.
        found: result of the evaluation.
        other: predictions to compare with; None: no comparison.
        sources: names of the files of truth and predictions.

    Raises:
        RunError: the page cannot be written.
    """
    videos, notes = prediction_videos(given.truth.videos, given.predictions)
    if other is not None:
        videos = beside(videos, other)
        notes = (*differences(found.evaluation, other), *notes)
    charts = chart_evaluation(
        found.matching,
        given.predictions,
        bootstrap=found.bootstrap,
        diagnosis=None if found.diagnosis is None else diagnosis_charts(found.diagnosis),
        scene_accuracy=found.scene_top1,
        mode=found.mode.name,
        notes=(*found.warnings, *notes),
    )
    write_report(
        path,
        Report(
            title="Evaluation",
            videos=videos,
            evaluation=charts,
            about=describe_evaluation_for_page(*sources, found.mode.name),
        ),
    )
