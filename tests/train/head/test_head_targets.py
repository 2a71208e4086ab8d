"""Targets and windows of the temporal head."""

from __future__ import annotations

import numpy as np
import torch

from tsm_runtime.results import BACKGROUND, Segment
from tsm_train.head.features import FrameSequence
from tsm_train.head.losses import distance_loss, head_loss
from tsm_train.head.targets import frame_targets
from tsm_train.head.windows import Window, draw_windows
from tsm_train.samples.clips import NO_FRAME, Labels
from tsm_train.sections.after_backbone import HeadConfig
from tsm_train.training.losses import frame_loss

SOFTMAX = Labels(("walk", "wave", BACKGROUND), ())
SIGMOID = Labels(("walk", "wave"), ())
SEGMENTS = [
    Segment(label="walk", start_seconds=0.2, end_seconds=1.0),
    Segment(label="wave", start_seconds=0.6, end_seconds=0.8),
]


def test_targets_of_a_softmax_head() -> None:
    found = frame_targets(SEGMENTS, 6, 0.2, SOFTMAX)
    assert found.action.tolist() == [2, 0, 0, 1, 0, 2]  # of two the shorter one
    assert found.actionness.tolist() == [0, 1, 1, 1, 1, 0]
    expected = [[0.1, 0.7], [0.3, 0.5], [0.1, 0.1], [0.7, 0.1]]
    np.testing.assert_allclose(found.distances[1:5], expected, atol=1e-6)
    assert np.isnan(found.distances[[0, 5]]).all()


def test_targets_of_a_sigmoid_head_hold_every_action() -> None:
    found = frame_targets(SEGMENTS, 6, 0.2, SIGMOID)
    assert found.action.tolist() == [[0, 0], [1, 0], [1, 0], [1, 1], [1, 0], [0, 0]]


def test_targets_of_a_pass_that_begins_later() -> None:
    found = frame_targets(SEGMENTS, 3, 0.2, SOFTMAX, offset_seconds=0.5)
    assert found.action.tolist() == [0, 0, 0]  # [0.5, 0.7) is half wave: walk covers all of it
    np.testing.assert_allclose(found.distances[0], [0.4, 0.4], atol=1e-6)


def sequence(length: int, labels: Labels = SOFTMAX) -> FrameSequence:
    features = np.arange(length, dtype=np.float16)[:, None].repeat(3, 1)
    return FrameSequence("v", features, frame_targets(SEGMENTS, length, 0.2, labels))


def test_windows_are_cut_from_the_video_and_filled_up_behind_it() -> None:
    window = draw_windows([sequence(6)], 4, 10, 1.0, np.random.default_rng(0))
    assert window.features.shape == (4, 10, 3)
    assert window.mask[:, :, 0].tolist() == [[1.0] * 6 + [0.0] * 4] * 4
    assert window.action.tolist() == [[2, 0, 0, 1, 0, 2, *[NO_FRAME] * 4]] * 4
    assert window.features[0, :6, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_window_at_another_speed_scales_its_distances() -> None:
    rng = np.random.default_rng(0)
    plain, rows = sequence(60), set()
    for _ in range(20):
        window = draw_windows([plain], 1, 6, 2.0, rng)
        known = ~window.distances[0].isnan().any(1)
        places = window.features[0, :, 0].long()
        steps = places.diff()
        if known.any() and len(set(steps.tolist())) == 1:
            rows.add(int(steps[0]))
            shown = window.distances[0][known]
            full = torch.from_numpy(plain.targets.distances)[places[known]]
            ratio = (shown / full).mean().item()
            assert 0.45 < ratio < 2.2
    assert rows


def test_long_videos_are_drawn_more_often() -> None:
    short, long = sequence(10), sequence(990)
    drawn = draw_windows([short, long], 200, 5, 1.0, np.random.default_rng(0))
    assert int((drawn.features[:, 0, 0] > 10).sum()) > 150


def test_the_loss_counts_frames_alone() -> None:
    for labels in (SOFTMAX, SIGMOID):
        window = draw_windows([sequence(6, labels)], 2, 10, 1.0, np.random.default_rng(0))
        num = len(labels.actions)
        outputs = (torch.randn(2, 10, num), torch.randn(2, 10), torch.rand(2, 10, 2))
        loss = head_loss(outputs, window, HeadConfig())
        changed = tuple(output.clone() for output in outputs)
        for output in changed:
            output[:, 6:] = 5.0
        assert loss.isfinite()
        torch.testing.assert_close(head_loss(changed, window, HeadConfig()), loss)  # type: ignore[arg-type]


def test_options_of_the_loss_are_those_of_the_frames() -> None:
    """Actionness and distances aside, the loss is the per-frame one with the same options."""
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    action = torch.tensor([[0, 1, 2, 2, 2], [2, 2, 2, 1, NO_FRAME]])
    unknown = torch.full((2, 5, 2), torch.nan)
    window = Window(torch.zeros(2, 5, 4), torch.ones(2, 5, 1), action, unknown[..., 0], unknown)
    outputs = (logits, torch.zeros(2, 5), torch.zeros(2, 5, 2))
    config = HeadConfig(label_smoothing=0.1, focal_gamma=2.0, hard_background=0.3)
    expected = frame_loss(logits, action, smoothing=0.1, focal_gamma=2.0, hard_background=0.3)
    torch.testing.assert_close(head_loss(outputs, window, config), expected)
    assert not torch.isclose(head_loss(outputs, window, HeadConfig()), expected)


def test_far_bounds_count_less_and_no_bound_nothing() -> None:
    near = distance_loss(torch.tensor([[[0.2, 0.2]]]), torch.tensor([[[0.1, 0.1]]]))
    far = distance_loss(torch.tensor([[[4.1, 4.1]]]), torch.tensor([[[4.0, 4.0]]]))
    assert near > far > 0
    assert distance_loss(torch.ones(1, 2, 2), torch.full((1, 2, 2), torch.nan)) == 0
