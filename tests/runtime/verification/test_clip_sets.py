"""What the models are compared on."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media import counted, write_levels, write_video

from tsm_runtime.backends.base import BlockingBackend, Scores
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import VideoError
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import IntervalScores
from tsm_runtime.verification.clip_sets import ClipSet, noise_clips, video_clips

SPEC = ClipSpec(interval_seconds=0.5, num_frames=4, size=32)


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(2, 40), st.integers(2, 9))
def test_noise_is_not_flat_and_no_two_clips_are_alike(num_frames: int, size: int, num_clips: int) -> None:
    spec = ClipSpec(interval_seconds=1.0, num_frames=num_frames, size=size)
    clips = noise_clips(spec, num_clips)
    assert clips.frames.shape == (num_clips, num_frames, size, size, 3)
    assert clips.frames.dtype == np.uint8
    assert clips.indices is None
    assert all((frame.max() > frame.min()).all() for clip in clips.frames for frame in clip)
    assert not any(np.array_equal(a, b) for a, b in combinations(clips.frames, 2))
    assert not any(np.array_equal(a, b) for clip in clips.frames for a, b in combinations(clip, 2))
    np.testing.assert_array_equal(clips.frames, noise_clips(spec, num_clips).frames)


def test_noise_differs_in_more_than_its_pixels() -> None:
    """Averaged over 4 x 4 parts, as a network does, the clips still differ, and so do places of a frame."""
    frames = noise_clips(ClipSpec(interval_seconds=1.0, num_frames=4, size=64)).frames.astype(float)
    parts = frames.reshape(len(frames), 4, 4, 16, 4, 16, 3).mean(axis=(3, 5))
    assert (parts.reshape(len(frames), -1).std(axis=1) > 10).all()  # plain pixel noise: about 1
    assert frames.min() == 0
    assert frames.max() >= 250


class Recorder(BlockingBackend):
    """A backend that keeps what it is given."""

    name = "recorder"

    def __init__(self) -> None:
        self.frames: list[npt.NDArray[np.uint8]] = []

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        self.frames.append(frames.copy())
        return Scores(np.tile(np.float32([1.0, 0.0]), (len(frames), 1)), None)


def seen_by_tsm_run(video: Path) -> tuple[npt.NDArray[np.uint8], IntervalScores]:
    recorder = Recorder()
    result = run(video, Member(backend=recorder, spec=SPEC, action_labels=("move", "background")))
    assert result.scores is not None
    return np.concatenate(recorder.frames), result.scores


def test_clips_of_a_video_are_what_tsm_run_sees(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", counted(60))
    frames, _ = seen_by_tsm_run(video)
    every = video_clips(video, SPEC, 100)
    np.testing.assert_array_equal(every.frames, frames)
    assert every.indices is not None
    assert every.indices.tolist() == [0, 1, 2, 3]
    assert every.name == "v.mp4"
    few = video_clips(video, SPEC, 3, name="mine")
    np.testing.assert_array_equal(few.frames, frames[:3])
    assert few.indices is not None
    assert few.indices.tolist() == [0, 1, 2]
    assert few.name == "mine"


def test_breaks_and_warnings_come_with_the_clips(tmp_path: Path) -> None:
    """A frame on screen from 0.52 s to 1.44 s: no interval is lost, but a break lies at 1.0 s."""
    times = [40 * n for n in range(14)] + [1440 + 40 * n for n in range(15)]
    video = write_video(tmp_path / "gap.mp4", counted(29), pts=times)
    clips = video_clips(video, SPEC, 100)
    frames, seen = seen_by_tsm_run(video)
    np.testing.assert_array_equal(clips.frames, frames)
    assert clips.indices is not None
    assert clips.indices.tolist() == seen.indices.tolist() == [0, 1, 2, 3]
    assert clips.breaks == seen.breaks == {2}
    assert [line for line in clips.warnings if "1 gap without a new frame" in line]


def test_a_video_without_a_whole_interval(tmp_path: Path) -> None:
    video = write_levels(tmp_path / "short.mp4", [(20, 0.3)])
    with pytest.raises(VideoError, match=r"short\.mp4: .*shorter than one interval.*--video"):
        video_clips(video, SPEC, 5)


def test_a_set_checks_itself() -> None:
    frames = np.zeros((2, 4, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="no clips"):
        ClipSet(name="none", frames=frames[:0])
    with pytest.raises(ValueError, match="3 indices for 2 clips"):
        ClipSet(name="odd", frames=frames, indices=np.arange(3))
