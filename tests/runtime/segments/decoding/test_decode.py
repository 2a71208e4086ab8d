"""Frame scores to segments: each method by example, the merge as the default, gaps, refined bounds."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.results import BACKGROUND, FrameScores, IntervalScores, Segment
from tsm_runtime.segments.decoding.decode import decode_frames
from tsm_runtime.segments.decoding.settings import Decoding, LengthPrior
from tsm_runtime.segments.find import merge_intervals

LABELS = ("walk", "wave", BACKGROUND)
STEP = 0.125


def frames_of(letters: str, best: float = 0.8, **more: object) -> FrameScores:
    """Scores whose argmax spells `letters`: a = walk, b = wave, . = background."""
    action = np.full((len(letters), 3), (1 - best) / 2, np.float32)
    action[np.arange(len(letters)), ["ab.".index(letter) for letter in letters]] = best
    given_: dict[str, object] = {"indices": np.arange(len(letters)), "step_seconds": STEP, "action": action}
    return FrameScores(**(given_ | more))  # type: ignore[arg-type]


def spans(segments: list[Segment]) -> list[tuple[str, float, float]]:
    """In frames."""
    return [(s.label, s.start_seconds / STEP, s.end_seconds / STEP) for s in segments]


@st.composite
def any_frames(draw: st.DrawFn) -> FrameScores:
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2]), min_size=1, max_size=30))
    indices = np.cumsum(steps).astype(np.int64)
    action = np.random.default_rng(draw(st.integers(0, 999))).random((len(steps), 3), np.float32)
    breaks = draw(st.frozensets(st.sampled_from(indices.tolist()), max_size=3))
    return FrameScores(indices=indices, step_seconds=STEP, action=action, breaks=breaks)


@given(any_frames(), st.sampled_from([(), (0.5, 0.3, 0.9)]))
def test_the_default_is_the_papers_merge(frames: FrameScores, thresholds: tuple[float, ...]) -> None:
    labels = ("walk", "wave", "sit") if thresholds else LABELS
    scores = IntervalScores(indices=frames.indices, action=frames.action, breaks=frames.breaks)
    expected = merge_intervals(scores, labels, STEP, thresholds)
    assert decode_frames(frames, labels, Decoding(), thresholds) == expected


@given(any_frames(), st.sampled_from(["viterbi", "durations"]), st.sampled_from([(), (0.5, 0.5, 0.5)]))
def test_without_costs_every_method_is_the_merge(
    frames: FrameScores, method: str, thresholds: tuple[float, ...]
) -> None:
    labels = ("walk", "wave", "sit") if thresholds else LABELS
    decoding = Decoding(method=method)  # type: ignore[arg-type]
    found, merged = (decode_frames(frames, labels, d, thresholds) for d in (decoding, Decoding()))
    assert spans(found) == spans(merged)


@pytest.mark.parametrize("method", ["viterbi", "durations"])
def test_a_cost_closes_a_flicker(method: str) -> None:
    frames = frames_of("...aaaabaaaa....")
    decoding = Decoding(method=method, switch_cost=2.0)  # type: ignore[arg-type]
    assert spans(decode_frames(frames, LABELS, decoding)) == [("walk", 3, 12)]
    own = replace(frames, action=frames.action[:, :2] * np.float32(0.9))
    found = decode_frames(own, ("walk", "wave"), decoding, (0.5, 0.5))
    assert spans(found) == [("walk", 3, 12)]


def test_lengths_decide() -> None:
    """A walk takes two seconds (16 frames), a wave half a second (4 frames)."""
    lengths = (
        LengthPrior(label="walk", mean_log=math.log(2.0), std_log=0.1),
        LengthPrior(label="wave", mean_log=math.log(0.5), std_log=0.1),
    )
    frames = frames_of("....bbbb....aaaaaaaaaaaaaaaa....aaaa....", best=0.7)
    found = decode_frames(frames, LABELS, Decoding(method="durations", lengths=lengths))
    assert spans(found) == [("wave", 4, 8), ("walk", 12, 28)]


def test_no_segment_crosses_a_gap() -> None:
    frames = frames_of("aaaaaa", breaks=frozenset({2}))
    late = replace(frames, indices=np.array([0, 1, 2, 3, 7, 8]))
    for method in ("merge", "viterbi", "durations"):
        decoding = Decoding(method=method, switch_cost=3.0)  # type: ignore[arg-type]
        assert spans(decode_frames(late, LABELS, decoding)) == [
            ("walk", 0, 2),
            ("walk", 2, 4),
            ("walk", 7, 9),
        ]


def test_the_score_is_the_highest_or_the_mean() -> None:
    frames = frames_of("aa")
    frames.action[1, 0] = 0.5
    for score, expected in (("max", 0.8), ("mean", 0.65)):
        (found,) = decode_frames(frames, LABELS, Decoding(score=score))  # type: ignore[arg-type]
        assert found.score == pytest.approx(expected)


def test_actionness_weighs_actions_against_the_background() -> None:
    frames = frames_of("aa..", actionness=np.array([0.9, 0.1, 0.1, 0.9999], np.float32))
    assert spans(decode_frames(frames, LABELS, Decoding())) == [("walk", 0, 2)]
    found = decode_frames(frames, LABELS, Decoding(actionness_weight=1.0))
    assert spans(found) == [("walk", 0, 1), ("walk", 3, 4)]


def true_distances(num_frames: int, start: float, end: float) -> np.ndarray:
    middles = (np.arange(num_frames) + 0.5) * STEP
    return np.maximum(np.stack([middles - start, end - middles], axis=1), 0).astype(np.float32)


def test_distances_refine_bounds() -> None:
    """The action is from 0.4 to 0.93 s; the grid of frames says 0.375 to 1.0 s."""
    frames = frames_of("...aaaaa....", distances=true_distances(12, 0.4, 0.93))
    (found,) = decode_frames(frames, LABELS, Decoding(refine_seconds=0.1))
    assert (found.start_seconds, found.end_seconds) == (
        pytest.approx(0.4, abs=0.02),
        pytest.approx(0.93, abs=0.02),
    )
    (near,) = decode_frames(frames, LABELS, Decoding(refine_seconds=0.1, refine_limit_seconds=0.01))
    assert (near.start_seconds, near.end_seconds) == (pytest.approx(0.385), pytest.approx(0.99))


def test_proposals_of_overlapping_actions_of_one_class() -> None:
    """Each frame says the bounds of its own action; soft-NMS leaves one proposal for each."""
    distances = np.concatenate([true_distances(8, 0.0, 0.9), true_distances(16, 0.8, 2.0)[8:]])
    frames = frames_of("a" * 16, distances=distances)
    decoding = Decoding(method="proposals", min_proposal=0.3)
    found = decode_frames(frames, LABELS, decoding)
    assert [(round(s.start_seconds, 2), round(s.end_seconds, 2)) for s in found] == [(0.0, 0.9), (0.8, 2.0)]


@pytest.mark.parametrize(
    ("decoding", "words"),
    [
        (Decoding(method="proposals"), "method proposals needs the distances of a temporal head"),
        (Decoding(refine_seconds=1), "refine_seconds needs the distances"),
        (Decoding(actionness_weight=1), "actionness_weight needs the actionness"),
    ],
)
def test_what_the_model_has_not(decoding: Decoding, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode_frames(frames_of("a."), LABELS, decoding)
    with pytest.raises(ValueError, match="3 action scores of frames for 2 labels"):
        decode_frames(frames_of("a."), LABELS[:2], Decoding())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"switch_cost": -1}, "switch_cost -1: expected 0 or more"),
        ({"smoothing_seconds": math.nan}, "smoothing_seconds nan"),
        ({"suppression_sigma": 0}, "suppression_sigma 0: expected more than 0"),
        ({"min_proposal": 2}, "min_proposal 2"),
    ],
)
def test_settings_check_themselves(changes: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(Decoding(), **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two length priors for one label"):
        Decoding(lengths=(LengthPrior(label="a", mean_log=0, std_log=1),) * 2)


def test_settings_go_through_json() -> None:
    lengths = (LengthPrior(label="walk", mean_log=0.5, std_log=0.25),)
    decoding = Decoding(method="durations", switch_cost=1.5, lengths=lengths)
    assert msgspec.json.decode(msgspec.json.encode(decoding), type=Decoding) == decoding
    with pytest.raises(msgspec.ValidationError, match="switch_cost"):
        msgspec.json.decode(b'{"switch_cost": -1}', type=Decoding)


def test_nothing_in_nothing_out() -> None:
    for method in ("merge", "viterbi", "durations"):
        assert decode_frames(frames_of(""), LABELS, Decoding(method=method)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"step_seconds": 0}, "step 0"),
        ({"actionness": np.zeros(3, np.float32)}, "actionness"),
        ({"distances": np.zeros(2, np.float32)}, "distances"),
        ({"indices": np.array([1, 1])}, "strictly increasing"),
    ],
)
def test_frame_scores_check_their_shapes(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        frames_of("a.", **changes)
