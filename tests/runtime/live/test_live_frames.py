"""Live runs whose segments are made of the scores of frames: as files, with the same look-ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from fakes import BrightnessBackend, brightness_member
from hypothesis import given, settings
from hypothesis import strategies as st
from lookahead import decode_with_lookahead
from streams import FakeConnection, FakeSource, Level, even, grey_frames, offline, source_of

from tsm_runtime.backends.base import Scores
from tsm_runtime.errors import RunError, UsageError
from tsm_runtime.fusion.options import FusionOptions
from tsm_runtime.live.events import LiveSegment, OpenSegment, Start
from tsm_runtime.live.frame_merging import FrameMerger
from tsm_runtime.live.options import LiveOptions
from tsm_runtime.live.session import watch
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.options import Options
from tsm_runtime.segments.decoding.settings import Decoding, LengthPrior

DARK, GREY, BRIGHT = 20, 128, 235


class FramesBackend(BrightnessBackend):
    """Scores the single frames by their brightness, which is also their only feature."""

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        clips = super().infer(frames)
        alone = super().infer(frames.reshape(-1, 1, *frames.shape[2:])).action
        means = frames.reshape(*frames.shape[:2], -1).mean(axis=2, dtype=np.float64)
        rows = alone.reshape(*frames.shape[:2], -1)
        return Scores(clips.action, clips.scene, rows, means[:, :, None].astype(np.float32))


class MeanHead:
    """Sees two frames before and three after each one; integers throughout, so that sums are exact."""

    context = (2, 3)

    def infer(
        self, features: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        padded = np.pad(np.round(features[:, 0]), self.context)
        means = np.lib.stride_tricks.sliding_window_view(padded, 6).sum(axis=1) / np.float32(6 * 255)
        scores = np.stack([1 - means, means, np.full_like(means, 0.55)], axis=1)
        return scores, means, np.stack([means, 1 - means], axis=1)


def frames_member(decoding: Decoding, *, head: bool = True, interval_seconds: float = 0.5) -> Member:
    return replace(
        brightness_member(interval_seconds),
        backend=FramesBackend(),
        decoding=decoding,
        head=MeanHead() if head else None,  # type: ignore[arg-type]
    )


DECODINGS = [
    Decoding(),
    Decoding(smoothing_seconds=0.4, refine_seconds=0.2, score="mean", temperature=2.0),
    Decoding(method="viterbi", switch_cost=0.3, refine_seconds=0.1),
    Decoding(
        method="durations", switch_cost=0.1, lengths=(LengthPrior(label="dark", mean_log=0, std_log=0.5),)
    ),
]

timings = st.lists(
    st.tuples(
        st.sampled_from([0.013, 0.04, 0.04, 0.2, 0.7, 1.6]),  # to the next frame
        st.sampled_from([DARK, GREY, BRIGHT]),
        st.integers(1, 20),  # how often
    ),
    min_size=1,
    max_size=12,
)


def levels_of(drawn: list[tuple[float, int, int]]) -> list[Level]:
    steps = [(step, level) for step, level, often in drawn for _ in range(often)]
    starts = np.cumsum([0.0, *(step for step, _ in steps)]).tolist()
    return [(start, step, level) for start, (step, level) in zip(starts, steps, strict=False)]


def found_in(source: FakeSource, members: list[Member], **options: object) -> list[tuple[object, ...]]:
    events = list(watch(source, members, LiveOptions(**options)))  # type: ignore[arg-type]
    return sorted((e.start, e.end, e.label, e.score) for e in events if isinstance(e, LiveSegment))


@settings(max_examples=20, deadline=None)
@given(
    timings, st.sampled_from(DECODINGS), st.booleans(), st.sampled_from([0.0, 0.5, 60.0]), st.integers(1, 4)
)
def test_live_is_the_file_with_the_same_look_ahead(
    drawn: list[tuple[float, int, int]], decoding: Decoding, head: bool, lookahead: float, batch_size: int
) -> None:
    if not head:
        decoding = replace(decoding, refine_seconds=0.0)
    levels, member = levels_of(drawn), frames_member(decoding, head=head)
    if sum(step for _, step, _ in levels) < 0.6:
        levels += [(levels[-1][0] + levels[-1][1] + k * 0.04, 0.04, DARK) for k in range(20)]
    result = offline(grey_frames(levels), member, Options())
    assert result.frames is not None
    segments = decode_with_lookahead(result.frames, member.action_labels, decoding, lookahead)
    if decoding.method == "merge" or lookahead == 60.0:
        bounds = [(s.label, s.start_seconds, s.end_seconds) for s in segments]
        assert [(s.label, s.start_seconds, s.end_seconds) for s in result.segments] == bounds
    assert found_in(
        source_of(levels), [member], lookahead_seconds=lookahead, batch_size=batch_size
    ) == sorted(
        (round(s.start_seconds, 6), round(s.end_seconds, 6), s.label, pytest.approx(s.score, abs=2e-6))
        for s in segments
    )


def test_an_ensemble_of_frames_and_of_clips_is_that_of_files() -> None:
    levels = even([(DARK, 1.0), (GREY, 0.6), (BRIGHT, 1.3), (DARK, 0.7), (GREY, 1.0), (BRIGHT, 1.0)])
    members = [frames_member(DECODINGS[0]), replace(brightness_member(), weight=2.0)]
    fusion = FusionOptions()
    result = offline(grey_frames(levels), members, Options(fusion=fusion))
    assert len(result.segments) > 2
    assert found_in(source_of(levels), members, fusion=fusion) == sorted(
        (round(s.start_seconds, 6), round(s.end_seconds, 6), s.label, pytest.approx(s.score, abs=2e-6))
        for s in result.segments
    )


@pytest.mark.parametrize("decoding", DECODINGS)
def test_a_segment_is_known_within_the_delay_that_the_start_states(decoding: Decoding) -> None:
    levels = even([(DARK, 2.0), (GREY, 2.0), (BRIGHT, 2.0), (DARK, 4.0), (GREY, 8.0)])
    options = LiveOptions(lookahead_seconds=0.5, batch_size=1, show_open=True)
    start, *events = watch(source_of(levels), frames_member(decoding), options)
    assert isinstance(start, Start)
    (model,) = start.models
    assert (model.decoding, model.lookahead_seconds) == (
        decoding.method,
        0.0 if decoding.method == "merge" else 0.5,
    )
    assert model.delay_seconds is not None
    assert model.delay_seconds < 3
    ended = [event for event in events if isinstance(event, LiveSegment)]
    # The head takes the frames after the end as black.
    assert [event.label for event in ended][:3] == ["dark", "bright", "dark"]
    for event in ended:
        assert event.time - event.end <= model.delay_seconds + decoding.refine_limit_seconds
        assert event.scene is not None
    assert any(isinstance(event, OpenSegment) for event in events)


def test_a_lost_stream_ends_segments() -> None:
    parts = [grey_frames(even([(DARK, 1.0)])), grey_frames(even([(DARK, 1.0)]))]
    source = FakeSource([FakeConnection(parts[0], failure="lost"), FakeConnection(parts[1])], reconnects=True)
    found = found_in(source, [frames_member(Decoding())])
    assert [(start, end) for start, end, *_ in found] == [(0.0, 1.0), (1.0, 2.0)]


def test_a_merger_says_what_can_still_come() -> None:
    member = frames_member(Decoding(), head=False)
    merger = FrameMerger(member, 0.0)
    dark = member.backend.infer(np.full((1, 4, 32, 32, 3), DARK, np.uint8))  # type: ignore[attr-defined]
    assert merger.push(0, dark) == []
    assert (merger.earliest_start("dark"), merger.earliest_start("bright")) == (0.0, 0.5)
    assert merger.open[0].segment.end_seconds == 0.5
    assert merger.skip_to(1) == []
    (ended,) = merger.skip_to(3)
    assert (ended.segment.end_seconds, merger.earliest_start("dark"), merger.num_intervals) == (0.5, 1.5, 1)
    with pytest.raises(ValueError, match="interval 2 after interval 2"):
        merger.push(2, dark)
    merger.push(3, dark)
    (ended,) = merger.push(4, dark, after_gap=True)
    assert (ended.segment.start_seconds, ended.segment.end_seconds) == (1.5, 2.0)
    with pytest.raises(RunError, match="no outputs of frames"):
        merger.push(5, Scores(dark.action, dark.scene))


def test_what_does_not_suit_a_stream_is_refused() -> None:
    with pytest.raises(UsageError, match="lookahead -1: expected 0 to 600 seconds"):
        LiveOptions(lookahead_seconds=-1.0)
    wide = frames_member(Decoding(smoothing_seconds=1000.0))
    with pytest.raises(UsageError, match="smoothing 1000 s: expected 512 s or less"):
        list(watch(source_of([]), wide))
    with pytest.raises(ValueError, match="not made of the scores of frames"):
        FrameMerger(brightness_member(), 0.0)
