"""`tsm-run --report`: collects the results and writes one page at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.formats.annotations import read_annotations
from tsm_runtime.formats.ground_truth import VideoAnnotation
from tsm_runtime.models.member import Member
from tsm_runtime.outputs.base import Sink, SinkAround
from tsm_runtime.outputs.output_names import check_second_output
from tsm_runtime.outputs.report.content import MemberSegments, Report, ScoreStrip, VideoReport
from tsm_runtime.outputs.report.page import write_report
from tsm_runtime.results import Result
from tsm_runtime.video.finding import VideoInput

REPORT_SUFFIXES = (".html", ".htm")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """Request of `--report`, `--embed` and `--truth`.

    Args:
        path: path of the page.
        embed: put the videos into the page.
        videos: file by video id.
        truth: annotations of the annotated videos.
    """

    path: Path
    embed: bool
    videos: Mapping[str, Path]
    truth: Mapping[str, VideoAnnotation]


def report_request(
    path: Path | None, embed: bool, truth: Path | None, inputs: Sequence[VideoInput], output: str | None
) -> ReportRequest | None:
    """Check the options and read the annotations before the run.

    Returns:
        The request, or None if no report is requested.

    Raises:
        UsageError: an option of the report without `--report`, a name that cannot be written, or wrong
            annotations, or annotations of none of the videos.
    """
    if path is None:
        if embed or truth is not None:
            raise UsageError(f"{'--embed' if embed else '--truth'} is for --report; give both")
        return None
    check_second_output("--report", path, REPORT_SUFFIXES, inputs, output)
    videos = {video.video_id: video.path for video in inputs}
    known = {} if truth is None else {v.video_id: v for v in read_annotations(truth).videos}
    if truth is not None and videos and not known.keys() & videos.keys():
        raise UsageError(
            f"--truth {truth}: annotates none of the videos; their ids: {', '.join(sorted(videos)[:5])}"
        )
    return ReportRequest(path=path, embed=embed, videos=videos, truth=known)


class ReportSink(SinkAround):
    """Writes the page at the end.

    Args:
        sink: receives the results first.
        request: the requested page.
        members: members that made the results; those of an ensemble are shown beside their fusion.
        about: how the results were made, by name.
        caveats: lines that a reader must know first.
    """

    def __init__(
        self,
        sink: Sink,
        request: ReportRequest,
        members: Sequence[Member],
        about: Mapping[str, str],
        caveats: Sequence[str] = (),
    ) -> None:
        super().__init__(sink)
        self._request, self._members = request, members
        self._about, self._caveats = about, tuple(caveats)
        self._videos: list[VideoReport] = []

    def add(self, result: Result) -> None:
        """Keep the result, and pass it on."""
        self._videos.append(
            VideoReport(
                result=result,
                video=self._request.videos[result.video_id],
                members=self._beside(result),
                truth=self._request.truth.get(result.video_id),
                strip=self._strip(result),
            )
        )
        super().add(result)

    def close(self) -> None:
        """Close the other sink, then write the page."""
        super().close()
        if videos := tuple(self._videos):
            title = videos[0].result.video_id if len(videos) == 1 else f"{len(videos)} videos"
            report = Report(title=title, videos=videos, about=self._about, caveats=self._caveats)
            write_report(self._request.path, report, embed=self._request.embed)

    def _beside(self, result: Result) -> tuple[MemberSegments, ...]:
        """Return the segments of each member; empty for a single model."""
        pairs = zip(self._members, result.members, strict=True) if result.members else ()
        return tuple(MemberSegments(name=m.name, segments=own.segments) for m, own in pairs if own)

    def _strip(self, result: Result) -> ScoreStrip | None:
        if result.scores is None:
            return None
        return ScoreStrip(
            scores=result.scores,
            labels=self._members[0].action_labels,
            interval_seconds=result.cell_seconds,
        )
