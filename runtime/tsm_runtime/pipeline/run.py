"""The pipeline: read -> cut -> score -> smooth -> merge -> fuse -> result."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from tsm_runtime.captures.selection import CapturePlan, plan_of_video
from tsm_runtime.captures.timeline import join_results
from tsm_runtime.errors import VideoError
from tsm_runtime.fusion.fuse import fuse_members, fuse_results
from tsm_runtime.models.member import Member
from tsm_runtime.models.nvdec import Nvdec
from tsm_runtime.pipeline.joining import joint_result
from tsm_runtime.pipeline.meter import Meter
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.reading import Reading
from tsm_runtime.pipeline.result import VideoOutcome, outcome_of
from tsm_runtime.pipeline.scheduler import VideoProgress, scored_videos
from tsm_runtime.results import Result
from tsm_runtime.video.finding import VideoInput

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

    The result of several members is the fusion of their own results by `fusion.fuse_results`, which it holds
    as `members`. A member for which the video has no whole interval is left out of the fusion, with a
    warning. The backends stay open.

    Raises:
        VideoError: the video cannot be read, has no pictures, or no whole interval for any member.
        RunError: a model returned scores that are not finite, or its backend failed.
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
    """Run models on plain videos as `run_captures` does, and yield the result or the error of each."""
    plans = [plan_of_video(video) for video in videos]
    outcomes = run_captures(plans, members, options, Reading(jobs=jobs, nvdec=nvdec), progress=progress)
    with closing(outcomes):
        for outcome in outcomes:
            (video,) = outcome.videos
            yield video.video, video.error or outcome.result  # type: ignore[misc]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureOutcome:
    """The result of a capture, or of a plain video.

    Args:
        result: the result; None if no video of the capture has one.
        videos: results of the members for each video, errors and warnings.
    """

    plan: CapturePlan
    result: Result | None
    videos: tuple[VideoOutcome, ...]


def run_captures(
    plans: Iterable[CapturePlan],
    members: Sequence[Member],
    options: Options,
    reading: Reading | None = None,
    *,
    progress: VideoProgress | None = None,
    meter: Meter | None = None,
) -> Generator[CaptureOutcome]:
    """Run models on captures, and yield the outcome of each, in their order.

    Arguments and errors are those of `scheduler.scored_videos`. Each video is decoded once for all members
    that see its view. Closing the generator ends all threads; the backends stay open. A plan is taken when
    the decoding of its first video begins.

    Raises:
        UsageError: a member's weight is not above 0.
    """
    begun: deque[CapturePlan] = deque()

    def videos() -> Iterator[VideoInput]:
        for plan in plans:
            begun.append(plan)
            yield from (video for video, _ in plan.begins)

    seeing, groups = _windows_of(members)
    # Read, cut, score: videos share batches.
    all_scored = scored_videos(
        videos(), seeing, options, reading or Reading(), progress=progress, meter=meter
    )
    with closing(all_scored):
        for first in all_scored:
            while not begun[0].begins:
                yield CaptureOutcome(plan=begun.popleft(), result=None, videos=())
            plan = begun.popleft()
            others = (next(all_scored) for _ in plan.begins[1:])
            scored = list(zip((video for video, _ in plan.begins), (first, *others), strict=True))
            # Smooth, merge, drop the short; then join the videos of each member's view; then fuse.
            found = [outcome_of(video, scores, seeing, options.min_score) for video, scores in scored]
            per_member = _per_member(plan, groups, found, options)
            result = _fused(per_member, members, options)
            if result is not None:
                result = replace(result, warnings=tuple(line for video in found for line in video.warnings))
            yield CaptureOutcome(plan=plan, result=result, videos=tuple(found))
        for plan in begun:  # captures without a video that can be run
            yield CaptureOutcome(plan=plan, result=None, videos=())


def _windows_of(members: Sequence[Member]) -> tuple[list[Member], list[list[tuple[int, Member]]]]:
    """Return a member for each window that is seen, and by member their numbers and themselves."""
    seeing: list[Member] = []
    groups: list[list[tuple[int, Member]]] = []
    for member in members:
        looks = member.by_window()
        groups.append([(len(seeing) + number, look) for number, look in enumerate(looks)])
        seeing += looks
    return seeing, groups


def _per_member(
    plan: CapturePlan,
    groups: Sequence[Sequence[tuple[int, Member]]],
    found: Sequence[VideoOutcome],
    options: Options,
) -> list[Result | None]:
    """Return the result of each member for a capture; of members that share a joint model the first has it.

    Args:
        plan: the capture.
        groups: numbers and members of each member's windows.
        found: outcome of each video.
        options: of the run.
    """
    results: list[Result | None] = []
    joined: set[int] = set()
    for group in groups:
        joint = group[0][1].joint
        if joint is None:
            results.append(_of_windows([_on_time_line(number, plan, found) for number, _ in group], options))
        elif id(joint) in joined:
            results.append(None)
        else:
            joined.add(id(joint))
            looks = [look for other in groups for look in other if look[1].joint is joint]
            results.append(joint_result(plan, looks, found, options.min_score))
    return results


def _on_time_line(number: int, plan: CapturePlan, found: Sequence[VideoOutcome]) -> Result | None:
    """Return the result of one member for a capture, from its results for the videos of its view."""
    parts = [
        (result, begin)
        for (_, begin), video in zip(plan.begins, found, strict=True)
        if (result := video.results.get(number)) is not None
    ]
    return join_results(plan.capture_id, parts) if parts else None


def _of_windows(results: Sequence[Result | None], options: Options) -> Result | None:
    """Return the result of a member for a panorama: what is found in any window counts in full."""
    if len(results) == 1:
        return results[0]
    if not any(results):
        return None
    fused = fuse_results(results, None, replace(options.fusion, denominator="present"))
    return replace(fused, members=(), scores=None, frames=None, features=None)


def _fused(per_member: Sequence[Result | None], members: Sequence[Member], options: Options) -> Result | None:
    if not any(per_member):
        return None
    if len(members) == 1:
        return per_member[0]
    weights, temperatures = zip(*((member.weight, member.temperature) for member in members), strict=True)
    return fuse_members(per_member, weights, temperatures, options.fusion)
