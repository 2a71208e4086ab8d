"""The way of the data: decode -> clips -> backend -> segments -> fusion -> result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from tsm_runtime.errors import VideoError
from tsm_runtime.formats.read_write import Result
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.scheduler import run_videos
from tsm_runtime.video.finding import VideoInput

__all__ = ["Member", "Options", "Progress", "run"]

Progress = Callable[[float, float | None], None]
"""Called with the second of the video that is reached and the length the file claims, if it claims one."""


def run(
    video: Path,
    members: Member | Sequence[Member],
    options: Options | None = None,
    *,
    video_id: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Find the segments of one video with one model, or with several that share its decoding.

    With several the result is what `fusion.fuse_results` makes of the members' own results, which it holds as
    `members`. A member of whose intervals none fits into the video has no voice there; a warning says so.
    The backends stay open.

    Raises:
        VideoError: the video cannot be read, has no pictures, or no whole interval for any member.
        RunError: a model gave scores that are not numbers, or its backend broke off.
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
