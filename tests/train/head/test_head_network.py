"""The temporal head: what a frame's outputs depend on."""

from __future__ import annotations

import pytest
import torch

from tsm_train.head.network import HeadProbabilities, TemporalHead, dilations_for


def head_of(*, causal: bool = False) -> TemporalHead:
    torch.manual_seed(1)
    head = TemporalHead(12, 4, frame_seconds=0.1, width=16, dilations=(1, 2, 4), causal=causal).eval()
    torch.nn.init.normal_(head.action.weight)
    return head


@pytest.mark.parametrize("causal", [False, True])
def test_a_window_with_its_context_gives_what_the_whole_gives(causal: bool) -> None:
    head = head_of(causal=causal)
    before, after = head.context
    assert (before, after) == ((14, 0) if causal else (7, 7))
    features = torch.randn(1, 100, 12)
    whole = head(features)
    part = head(features[:, 40 - before : 60 + after])
    for full, cut in zip(whole, part, strict=True):
        torch.testing.assert_close(full[:, 40:60], cut[:, before : before + 20])


@pytest.mark.parametrize("causal", [False, True])
def test_nothing_beyond_the_context_matters(causal: bool) -> None:
    head = head_of(causal=causal)
    features = torch.randn(1, 60, 12, requires_grad=True)
    head(features)[0][0, 30].sum().backward()
    assert features.grad is not None
    reached = features.grad[0].abs().sum(1).nonzero().flatten()
    before, after = head.context
    assert (int(reached[0]), int(reached[-1])) == (30 - before, 30 + after)


def test_frames_that_fill_a_window_up_change_nothing() -> None:
    head = head_of()
    features = torch.randn(1, 30, 12)
    filled = torch.cat([features, torch.full((1, 20, 12), 9.0)], 1)
    mask = torch.cat([torch.ones(1, 30, 1), torch.zeros(1, 20, 1)], 1)
    for alone, padded in zip(head(features), head(filled, mask), strict=True):
        torch.testing.assert_close(alone, padded[:, :30])


def test_before_training_the_classes_are_those_of_the_backbone() -> None:
    head = TemporalHead(12, 4, frame_seconds=0.1, width=16).eval()
    features = torch.randn(2, 9, 12)
    torch.testing.assert_close(head(features)[0], head.frame_head(features))
    scores, actionness, distances = HeadProbabilities(head, sigmoid=False)(features)
    torch.testing.assert_close(scores.sum(2), torch.ones(2, 9))
    assert actionness.shape == (2, 9)
    assert (distances > 0).all()


@pytest.mark.parametrize(
    ("receptive", "step", "expected"),
    [
        (4.0, 0.125, (1, 2, 4, 8, 16)),
        (0.1, 0.125, (1,)),
        (0.5, 0.1, (1, 2)),
        (4.0, 0.0625, (1, 2, 4, 8, 16, 32)),
    ],
)
def test_dilations_reach_the_requested_field(
    receptive: float, step: float, expected: tuple[int, ...]
) -> None:
    assert dilations_for(receptive, step) == expected
    assert (2 * sum(expected) + 1) * step >= receptive
