"""Random changes of a training clip, the same for all of its frames."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tsm_train.sections.training import AugmentConfig


def augment_clip(
    clip: Tensor, size: int, config: AugmentConfig, rng: np.random.Generator, *, may_flip: bool = True
) -> tuple[Tensor, bool]:
    """Crop, mirror and recolour a clip; one of pictures of sound stays as it is, as its network changes it.

    Args:
        clip: (T, H, W, 3) uint8, or pictures of sound.
        size: edge of the result in pixels; 0: pictures of sound.
        config: how far each change may go.
        rng: where chance comes from; as much is drawn whatever `may_flip` says.
        may_flip: False for what loses its meaning in a mirror.

    Returns:
        (T, size, size, 3) uint8, and whether it is mirrored.
    """
    if not size:
        return clip, False
    top, left, height, width = _random_crop(clip.shape[1], clip.shape[2], config.crop_scale, rng)
    # Kept in uint8 with colours last: torch resizes that several times as fast as float planes.
    picture = clip[:, top : top + height, left : left + width].permute(0, 3, 1, 2)
    if picture.shape[-2:] != (size, size):
        picture = F.interpolate(picture, (size, size), mode="bilinear", antialias=True)
    flipped = rng.random() < config.flip and may_flip
    if flipped:
        picture = picture.flip(-1)
    if config.color:
        picture = _recolour(picture, config.color, rng)
    return picture.permute(0, 2, 3, 1), flipped


def _random_crop(
    height: int, width: int, scale: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return top, left, height, width of a crop that keeps at least `scale` of the area."""
    area = rng.uniform(scale, 1.0)
    # The aspect varies as far as the kept area leaves room for it, at most by a third.
    stretch = min(1 / area, 4 / 3) ** rng.uniform(-0.5, 0.5)
    crop_height = min(height, max(1, round(height * math.sqrt(area) * stretch)))
    crop_width = min(width, max(1, round(width * math.sqrt(area) / stretch)))
    top = int(rng.integers(0, height - crop_height + 1))
    left = int(rng.integers(0, width - crop_width + 1))
    return top, left, crop_height, crop_width


def _recolour(picture: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Change brightness, contrast and saturation of (T, 3, H, W) uint8."""
    brightness, contrast, saturation = (float(v) for v in rng.uniform(1 - strength, 1 + strength, 3))
    pixels = picture.float()
    gray = pixels.mean(dim=1, keepdim=True)
    offset = gray.mean() * brightness * (1 - contrast)
    gray.mul_(brightness * contrast * (1 - saturation)).add_(offset)
    pixels.mul_(brightness * contrast * saturation).add_(gray)
    return pixels.round_().clamp_(0, 255).to(torch.uint8)
