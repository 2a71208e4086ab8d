"""The way of the data: read -> cut -> score -> smooth -> merge -> fuse -> result."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from tsm_runtime.errors import VideoError
from tsm_runtime.fusion.calibration import calibrated_result
from tsm_runtime.fusion.fuse import fuse_results
from tsm_runtime.models.member import Member
from tsm_runtime.models.nvdec import Nvdec
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.result import left_out, result_of, why_nothing
from tsm_runtime.pipeline.scheduler import VideoProgress, scored_videos
from tsm_runtime.pipeline.scored import ScoredVideo
from tsm_runtime.results import Result
from tsm_runtime.video.finding import VideoInput

__all__ = ["Member", "Options", "Progress", "run", "run_videos"]

Progress = Callable[[float, float | None], None]
"""Called with the second of the video that is scored and the length that the container claims, or None."""


def run(
    video: Path,
    members: Member | Sequence[Member],
    options: Options | None = None,
    *,
    video_id: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Find the segments of one video with one model, or with several that share its decoding.

    The result of several members is what `fusion.fuse_results` makes of their own results, which it holds as
    `members`. A member for which the video has no whole interval is left out of the fusion, with a warning.
    The backends stay open.

    Raises:
        VideoError: the video cannot be read, has no pictures, or no whole interval for any member.
        RunError: a model gave scores that are not finite, or its backend failed.
        UsageError: a member's weight is not above 0.
    """
    members = (members,) if isinstance(members, Member) else tuple(members)
    report = None if progress is None else lambda _, reached, claimed: progress(reached, claimed)
    given = VideoInput(video, video_id or video.stem)
    with closing(run_videos([given], members, options or Options(), progress=report)) as found:
        _, result = next(found)
    if isinstance(result, VideoError):
        raise result
    return result


def run_videos(
    videos: Sequence[VideoInput],
    members: Sequence[Member],
    options: Options,
    *,
    jobs: int = 1,
    progress: VideoProgress | None = None,
    nvdec: Nvdec | None = None,
) -> Generator[tuple[VideoInput, Result | VideoError]]:
    """Run models on videos, several at a time, and yield each video's result or error, in their order.

    Arguments and errors are those of `scheduler.scored_videos`, and:

    Raises:
        UsageError: a member's weight is not above 0.
    """
    with closing(
        scored_videos(videos, members, options, jobs=jobs, progress=progress, nvdec=nvdec)
    ) as all_scored:
        for video, scored in zip(videos, all_scored, strict=True):
            yield video, scored if isinstance(scored, VideoError) else _fused(scored, members, options)


def _fused(scored: ScoredVideo, members: Sequence[Member], options: Options) -> Result | VideoError:
    seeing = [members[number] for number in scored.scores]
    results = [
        result_of(member, scores, scored, options.min_score)
        for member, scores in zip(seeing, scored.scores.values(), strict=True)
    ]
    if not any(results):
        return VideoError(why_nothing(scored))
    if len(seeing) == 1 and results[0]:
        return results[0]
    pairs = zip(results, seeing, strict=True)
    calibrated = [result and calibrated_result(result, member.temperature) for result, member in pairs]
    fused = fuse_results(calibrated, [member.weight for member in seeing], options.fusion)
    warnings = (*fused.warnings, *left_out(seeing, results, scored))
    return replace(fused, warnings=warnings, members=tuple(results))
