"""Decoding with a bounded look-ahead: as the plain one where it sees enough, whatever arrives at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lookahead import decode_with_lookahead

from tsm_runtime.results import BACKGROUND, FrameScores, Segment
from tsm_runtime.segments.decoding.decode import decode_frames
from tsm_runtime.segments.decoding.lookahead import FrameDecoder, Lag
from tsm_runtime.segments.decoding.settings import Decoding, LengthPrior

LABELS = ("walk", "wave", BACKGROUND)
STEP = 0.125
WHOLE = 60 * STEP
"""As long as any video here."""

decodings = st.builds(
    Decoding,
    method=st.sampled_from(["merge", "viterbi", "durations"]),
    smoothing_seconds=st.sampled_from([0.0, 2 * STEP, 5 * STEP]),
    switch_cost=st.sampled_from([0.0, 1.0]),
    lengths=st.just((LengthPrior(label="walk", mean_log=-0.5, std_log=0.4),)),
    actionness_weight=st.sampled_from([0.0, 0.5]),
    refine_seconds=st.sampled_from([0.0, 0.1, 0.3]),
    score=st.sampled_from(["max", "mean"]),
)


@st.composite
def any_frames(draw: st.DrawFn, gaps: bool = True) -> FrameScores:
    """Random scores that change slowly, so that runs of several frames come about."""
    steps = draw(st.lists(st.sampled_from([1] * 9 + [2 if gaps else 1]), min_size=1, max_size=50))
    indices = np.cumsum(steps).astype(np.int64)
    random = np.random.default_rng(draw(st.integers(0, 999)))
    action = np.repeat(random.random((len(steps) // 4 + 1, 3)), 4, axis=0)[: len(steps)]
    action = action + 0.3 * random.random(action.shape)
    return FrameScores(
        indices=indices,
        step_seconds=STEP,
        action=(action / action.sum(axis=1, keepdims=True)).astype(np.float32),
        actionness=random.uniform(0.1, 0.9, len(steps)).astype(np.float32),
        distances=random.uniform(0, 1, (len(steps), 2)).astype(np.float32),
        breaks=draw(st.frozensets(st.sampled_from(indices.tolist()), max_size=2)) if gaps else frozenset(),
    )


def rounded(segments: list[Segment]) -> list[tuple[object, ...]]:
    """Of the sums of a mean score the last digits differ."""
    return [(s.label, s.start_seconds, s.end_seconds, pytest.approx(s.score, abs=1e-5)) for s in segments]


def exact(segments: list[Segment]) -> list[tuple[object, ...]]:
    return [(s.label, s.start_seconds, s.end_seconds, s.score) for s in segments]


thresholds = st.sampled_from([(), (0.4, 0.3, 0.35)])


@given(any_frames(), decodings, thresholds)
def test_a_look_ahead_over_the_whole_video_is_the_plain_decoding(
    frames: FrameScores, decoding: Decoding, limits: tuple[float, ...]
) -> None:
    labels = ("walk", "wave", "sit") if limits else LABELS
    found = decode_with_lookahead(frames, labels, decoding, WHOLE, limits)
    assert exact(found) == rounded(decode_frames(frames, labels, decoding, limits))


@given(any_frames(), decodings.filter(lambda d: d.method == "merge"), thresholds, st.sampled_from([0.0, 0.3]))
def test_a_merge_needs_no_look_ahead(
    frames: FrameScores, decoding: Decoding, limits: tuple[float, ...], lookahead: float
) -> None:
    labels = ("walk", "wave", "sit") if limits else LABELS
    found = decode_with_lookahead(frames, labels, decoding, lookahead, limits)
    assert exact(found) == rounded(decode_frames(frames, labels, decoding, limits))
    assert Lag(decoding, STEP, lookahead).lookahead == 0


@given(
    any_frames(gaps=False),
    decodings,
    st.sampled_from([0.0, 3 * STEP, 16 * STEP]),
    st.lists(st.integers(1, 20), max_size=50),
)
def test_segments_do_not_depend_on_what_arrives_at_once(
    frames: FrameScores, decoding: Decoding, lookahead: float, sizes: list[int]
) -> None:
    decoder, found = FrameDecoder(LABELS, STEP, decoding, lookahead), []
    borders = [0, *np.cumsum(sizes).clip(0, len(frames)).tolist(), len(frames)]
    for start, stop in pairwise(borders):
        if start < stop:
            earliest = {label: decoder.earliest_start(label) for label in LABELS}
            ended = decoder.push(frames.rows(slice(start, stop)))
            assert all(each.segment.start_seconds >= earliest[each.segment.label] for each in ended)
            found += ended
    found += decoder.close()
    assert not decoder.is_open
    whole = decode_with_lookahead(frames, LABELS, decoding, lookahead)
    order = {label: number for number, label in enumerate(LABELS)}
    in_time = sorted(
        (each.segment for each in found), key=lambda s: (s.start_seconds, s.end_seconds, order[s.label])
    )
    assert exact(in_time) == exact(whole)


@given(any_frames(gaps=False), decodings, st.sampled_from([0.0, 3 * STEP, 16 * STEP]))
def test_segments_are_reported_in_time_and_are_final(
    frames: FrameScores, decoding: Decoding, lookahead: float
) -> None:
    lag = Lag(decoding, STEP, lookahead)
    decoder, found = FrameDecoder(LABELS, STEP, decoding, lookahead), []
    for row in range(len(frames)):
        ended = decoder.push(frames.rows(slice(row, row + 1)))
        known = int(frames.indices[row]) + 1
        found += [each.segment for each in ended]
        for each in ended:
            end_frame = round(each.segment.end_seconds / STEP)
            if not decoding.refine_seconds:
                assert known - end_frame <= lag.frames
    assert {*found} <= {*decode_with_lookahead(frames, LABELS, decoding, lookahead)}


def test_a_short_look_ahead_decides_before_it_sees_what_follows() -> None:
    """Two frames of another label between many of one: viterbi removes them if it sees what follows."""
    action = np.full((20, 3), 0.1, np.float32)
    action[:, 0] = 0.8
    action[8:10] = [0.1, 0.8, 0.1]
    frames = FrameScores(indices=np.arange(20), step_seconds=STEP, action=action)
    decoding = Decoding(method="viterbi", switch_cost=3.0)
    spans = {
        lookahead: [
            (s.label, s.start_seconds / STEP, s.end_seconds / STEP)
            for s in decode_with_lookahead(frames, LABELS, decoding, lookahead * STEP)
        ]
        for lookahead in (0, 1, 4)
    }
    assert spans[4] == [("walk", 0, 20)]
    assert spans[0] != spans[4]


def test_memory_does_not_grow() -> None:
    decoding = Decoding(method="viterbi", switch_cost=1.0, smoothing_seconds=1.0, refine_seconds=0.2)
    decoder = FrameDecoder(LABELS, STEP, decoding, 2.0)
    row = np.array([[0.8, 0.1, 0.1]], np.float32)
    for number in range(1000):
        one = FrameScores(
            indices=np.array([number]), step_seconds=STEP, action=row, distances=np.ones((1, 2), np.float32)
        )
        assert decoder.push(one) == []
    assert decoder._raw is not None
    assert len(decoder._raw) < 150
    (found,) = decoder.close()
    assert found.num_cells == 1000


def test_scenes_are_summed_over_the_frames() -> None:
    action = np.array([[0.8, 0.1, 0.1]] * 4 + [[0.1, 0.1, 0.8]], np.float32)
    frames = FrameScores(indices=np.arange(5), step_seconds=STEP, action=action)
    scenes = np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 2, np.float32)
    (found,) = FrameDecoder(LABELS, STEP, Decoding(), 0.0).push(frames, scenes)
    assert found.scene_sum is not None
    assert (found.scene_sum.tolist(), found.num_cells) == ([3.0, 1.0], 4)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="lookahead -1"):
        FrameDecoder(LABELS, STEP, Decoding(), -1.0)
    one = FrameScores(indices=np.arange(1), step_seconds=STEP, action=np.ones((1, 3), np.float32))
    decoder = FrameDecoder(LABELS, STEP, Decoding(), 0.0)
    decoder.push(one)
    with pytest.raises(ValueError, match="frame 0 after frame 0"):
        decoder.push(one)
    with pytest.raises(ValueError, match="needs the distances"):
        FrameDecoder(LABELS, STEP, Decoding(refine_seconds=0.1), 0.0).push(one)
