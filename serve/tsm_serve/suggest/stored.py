"""Evidence from the scores that were stored with the drafts of a review."""

from __future__ import annotations

from tsm_serve.review.project import Project
from tsm_serve.suggest.evidence import Evidence


def evidence_of_project(project: Project) -> list[Evidence]:
    """Return the evidence of every video that has scores of the labels most of them have."""
    found = []
    for line in project.list_videos():
        scores = project.drafts.scores(line["id"])
        if scores is None or not len(scores.starts):
            continue
        found.append(
            Evidence(
                video_id=line["id"],
                views=[scores.action],
                starts=scores.starts,
                cell_seconds=scores.cell_seconds,
                labels=scores.labels,
                is_labelled=line["state"] == "done",
            )
        )
    labels = max((e.labels for e in found), key=lambda each: sum(e.labels == each for e in found), default=())
    return [evidence for evidence in found if evidence.labels == labels]
