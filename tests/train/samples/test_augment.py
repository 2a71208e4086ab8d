from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tsm_train.samples.augment import augment_clip
from tsm_train.sections.training import AugmentConfig

OFF: dict[str, Any] = {"flip": 0.0, "crop_scale": 1.0, "color": 0.0, "time_jitter": 0.0}
EVERYTHING = AugmentConfig(flip=0.5, crop_scale=0.5, color=0.4)


def noise(size: int, frames: int = 3) -> Tensor:
    shape = (frames, size, size, 3)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


def augmented(clip: Tensor, size: int, config: AugmentConfig, seed: int = 0) -> Tensor:
    return augment_clip(clip, size, config, np.random.default_rng(seed))[0]


@pytest.mark.parametrize("size", [32, 36, 40])
def test_shape_and_dtype(size: int) -> None:
    for seed in range(20):
        result = augmented(noise(36), size, EVERYTHING, seed)
        assert (result.shape, result.dtype) == ((3, size, size, 3), torch.uint8)


def test_nothing_changes_when_everything_is_off() -> None:
    clip = noise(36)
    for seed in range(5):
        assert torch.equal(augmented(clip, 36, AugmentConfig(**OFF), seed), clip)


def test_the_input_is_left_alone() -> None:
    clip = noise(36)
    augmented(clip, 36, AugmentConfig(**{**OFF, "color": 0.5}))
    assert torch.equal(clip, noise(36))


def test_all_frames_change_alike() -> None:
    still = noise(36, frames=1).expand(4, -1, -1, -1)
    for seed in range(20):
        result = augmented(still, 32, EVERYTHING, seed)
        assert all(torch.equal(frame, result[0]) for frame in result)


def test_flip_mirrors_left_and_right() -> None:
    clip = noise(36)
    assert torch.equal(augmented(clip, 36, AugmentConfig(**{**OFF, "flip": 1.0})), clip.flip(2))


def test_what_may_not_be_mirrored_is_not_and_nothing_else_changes() -> None:
    clip, mirror = noise(36), AugmentConfig(flip=1.0, crop_scale=0.5, color=0.4)
    flipped, mirrored = augment_clip(clip, 32, mirror, np.random.default_rng(3))
    still, unmirrored = augment_clip(clip, 32, mirror, np.random.default_rng(3), may_flip=False)
    assert (mirrored, unmirrored) == (True, False)
    assert torch.equal(flipped.flip(2), still)


def test_chance_follows_from_the_generator() -> None:
    clip = noise(36)
    assert torch.equal(augmented(clip, 32, EVERYTHING, 7), augmented(clip, 32, EVERYTHING, 7))
    assert not torch.equal(augmented(clip, 32, EVERYTHING, 7), augmented(clip, 32, EVERYTHING, 8))


def test_a_crop_keeps_its_share_of_the_picture() -> None:
    """Pixels that encode their own row and column show which part of the picture was kept."""
    size = 200
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    clip = torch.stack([row, column, row], -1)[None].to(torch.uint8)
    shares = []
    for seed in range(50):
        cropped = augmented(clip, 100, AugmentConfig(**{**OFF, "crop_scale": 0.5}), seed)[0].float()
        height, width = (cropped[..., c].max() - cropped[..., c].min() for c in (0, 1))
        shares.append(float(height * width) / size**2)
    assert 0.45 < min(shares) < 0.6
    assert 0.9 < max(shares) <= 1.0


def test_colours_stay_within_the_limits() -> None:
    gray = torch.full((2, 8, 8, 3), 100, dtype=torch.uint8)
    for seed in range(20):
        result = augmented(gray, 8, AugmentConfig(**{**OFF, "color": 0.2}), seed)
        assert 80 <= int(result.min()) == int(result.max()) <= 120
