"""Training of a temporal head on features that are there already."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from tsm_runtime.errors import RunError, UsageError
from tsm_runtime.results import BACKGROUND, Segment
from tsm_runtime.segments.decoding.decode import decode_frames
from tsm_runtime.segments.decoding.settings import Decoding
from tsm_train.head.features import FrameSequence, Piece
from tsm_train.head.fit import fit_head, fit_heads
from tsm_train.head.network import HeadGroup, TemporalHead
from tsm_train.head.targets import frame_targets
from tsm_train.head.train import score_pieces
from tsm_train.samples.clips import Labels
from tsm_train.sections.after_backbone import HeadConfig

STEP, DIM = 0.1, 6
QUICK = HeadConfig(
    epochs=150,
    learning_rate=0.01,
    width=16,
    window_seconds=4.0,
    receptive_seconds=2.0,
    dropout=0.1,
    input_dropout=0.1,
)


def sequence(segments: list[Segment], labels: Labels, seconds: float = 8.0, seed: int = 0) -> FrameSequence:
    """Features whose first columns hold the class of a frame, with noise."""
    count = round(seconds / STEP)
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, DIM)).astype(np.float16)
    for k in range(count):
        for s in segments:
            if s.start_seconds <= (k + 0.5) * STEP < s.end_seconds:
                features[k, labels.actions.index(s.label)] += 4
    return FrameSequence(f"v{seed}", features, frame_targets(segments, count, STEP, labels))


def segment(label: str, start: float, end: float) -> Segment:
    return Segment(label=label, start_seconds=start, end_seconds=end)


def layer(labels: Labels) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(DIM, len(labels.actions))


SOFTMAX = Labels(("walk", "wave", BACKGROUND), ())


def many(labels: Labels, count: int = 8) -> list[FrameSequence]:
    found = []
    for seed in range(count):
        start = 0.5 + 0.13 * seed
        segments = [segment("walk", start, start + 2), segment("wave", start + 3, start + 4.5)]
        found.append(sequence(segments, labels, seed=seed))
    return found


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("labels", [SOFTMAX, Labels(("walk", "wave"), ())], ids=["softmax", "sigmoid"])
def test_a_head_finds_actions_and_their_bounds(labels: Labels, causal: bool) -> None:
    config = msgspec.structs.replace(QUICK, causal=causal)
    head = fit_head(many(labels), layer(labels), labels, STEP, config)
    truth = [segment("walk", 1.0, 3.0), segment("wave", 4.0, 5.5)]
    new = sequence(truth, labels, seed=99)
    sigmoid = labels.head == "sigmoid"
    frames = score_pieces(head, [Piece(0.0, new.features)], sigmoid=sigmoid)
    thresholds = (0.5, 0.5) if sigmoid else ()
    found = decode_frames(frames, labels.actions, Decoding(method="viterbi", switch_cost=4.0), thresholds)
    assert [s.label for s in found] == ["walk", "wave"]
    for got, want in zip(found, truth, strict=True):
        assert abs(got.start_seconds - want.start_seconds) <= 0.3
        assert abs(got.end_seconds - want.end_seconds) <= 0.3
    assert frames.distances is not None
    assert frames.actionness is not None
    assert frames.actionness[20] > 0.5 > frames.actionness[70]
    if not causal:
        starts = (np.arange(10, 15) + 0.5) * STEP - frames.distances[10:15, 0]
        assert abs(starts.mean() - 1.0) < 0.3


def test_the_same_seed_gives_the_same_head_and_leaves_chance_alone() -> None:
    short = HeadConfig(epochs=1, width=16, window_seconds=4.0)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = (fit_head(many(SOFTMAX, 2), layer(SOFTMAX), SOFTMAX, STEP, short) for _ in range(2))
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    torch.manual_seed(5)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_heads_of_a_group_differ_and_the_first_is_the_single_one() -> None:
    config = HeadConfig(epochs=1, width=16, window_seconds=4.0, members=2)
    group = fit_heads(many(SOFTMAX, 2), layer(SOFTMAX), SOFTMAX, STEP, config, seed=3)
    alone = fit_heads(
        many(SOFTMAX, 2), layer(SOFTMAX), SOFTMAX, STEP, msgspec.structs.replace(config, members=1), seed=3
    )
    assert isinstance(group, HeadGroup)
    assert isinstance(alone, TemporalHead)
    first, second = (group.heads[number].state_dict() for number in (0, 1))
    assert all(torch.equal(first[name], value) for name, value in alone.state_dict().items())
    assert not torch.equal(first["reduce.weight"], second["reduce.weight"])
    assert (group.frame_seconds, group.context) == (alone.frame_seconds, alone.context)


def test_one_class_and_no_background() -> None:
    """Every frame of the training videos has the one action that there is."""
    labels = Labels(("walk", BACKGROUND), ())
    everywhere = [sequence([segment("walk", 0.0, 8.0)], labels, seed=seed) for seed in range(3)]
    head = fit_head(everywhere, layer(labels), labels, STEP, QUICK)
    frames = score_pieces(head, [Piece(0.0, everywhere[0].features)], sigmoid=False)
    (found,) = decode_frames(frames, labels.actions, Decoding())
    assert (found.label, found.start_seconds) == ("walk", 0.0)
    assert found.end_seconds == pytest.approx(8.0)


def test_a_video_shorter_than_the_receptive_field() -> None:
    head = fit_head(many(SOFTMAX, 2), layer(SOFTMAX), SOFTMAX, STEP, HeadConfig(epochs=1, width=16))
    assert head.reach * STEP > 1.0
    frames = score_pieces(head, [Piece(0.0, np.ones((1, DIM), np.float16))], sigmoid=False)
    assert frames.action.shape == (1, 3)
    assert np.isfinite(frames.action).all()


def test_pieces_between_gaps_know_nothing_of_each_other() -> None:
    head = fit_head(many(SOFTMAX, 2), layer(SOFTMAX), SOFTMAX, STEP, HeadConfig(epochs=1, width=16))
    one, two = many(SOFTMAX, 2)
    both = score_pieces(head, [Piece(0.0, one.features), Piece(9.0, two.features)], sigmoid=False)
    alone = score_pieces(head, [Piece(9.0, two.features)], sigmoid=False)
    np.testing.assert_allclose(both.action[len(one.features) :], alone.action, atol=1e-6)
    assert both.indices[len(one.features)] == 90
    assert len(list(both.pieces)) == 2


def test_what_cannot_be_trained_is_an_error() -> None:
    with pytest.raises(UsageError, match="no training video as long as one interval"):
        fit_head([], layer(SOFTMAX), SOFTMAX, STEP, QUICK)
    broken = replace(many(SOFTMAX, 1)[0], features=np.full((80, DIM), np.nan, np.float16))
    with pytest.raises(RunError, match=r"the loss became nan in step 1 of \d+; lower head.learning_rate"):
        fit_head([broken], layer(SOFTMAX), SOFTMAX, STEP, QUICK)
