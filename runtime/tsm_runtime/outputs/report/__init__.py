"""A report as one HTML page that needs no network: video, timeline, table, and evaluation charts.

`content` holds what a page can show, `page` makes the HTML, `evaluation_charts` computes what an evaluation
page draws. The looks and the behaviour are plain CSS and JavaScript in `assets/`.
"""

from __future__ import annotations

from tsm_runtime.outputs.report.content import (
    Confusion,
    EvaluationCharts,
    MemberSegments,
    PrecisionRecall,
    Report,
    ScoreStrip,
    VideoReport,
)
from tsm_runtime.outputs.report.diagnosis_charts import diagnosis_charts
from tsm_runtime.outputs.report.evaluation_charts import (
    chart_evaluation,
    confusion_matrix,
    precision_recall,
    prediction_videos,
)
from tsm_runtime.outputs.report.page import report_page, write_report

__all__ = [
    "Confusion",
    "EvaluationCharts",
    "MemberSegments",
    "PrecisionRecall",
    "Report",
    "ScoreStrip",
    "VideoReport",
    "chart_evaluation",
    "confusion_matrix",
    "diagnosis_charts",
    "precision_recall",
    "prediction_videos",
    "report_page",
    "write_report",
]
