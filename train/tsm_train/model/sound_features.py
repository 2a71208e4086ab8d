"""The backbone of models of sound alone: convolutions over pictures of sound."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tsm_runtime.audio.pictures import DIFFERENCE_LEVELS_PER_NAT, LEVELS_PER_NAT, MIDDLE_LEVEL

_GAIN = 1.0
"""Largest change of loudness in training, in nats."""

_MASKED = (0.2, 0.15)
"""Largest share of frames and of bands that is hidden in training (SpecAugment, Park et al. 2019)."""


def sound_scale(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation per channel that turn levels of a picture into nats above silence."""
    means, deviations = (0.0, MIDDLE_LEVEL), (LEVELS_PER_NAT, DIFFERENCE_LEVELS_PER_NAT)
    return means[:channels], deviations[:channels]


def sound_block(inputs: int, outputs: int) -> nn.Sequential:
    """Return a convolution that halves time and bands, with its norm and activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def sound_convolutions(channels: int, width: int) -> nn.Sequential:
    """Return the convolutions over log-mel frames; the last has four times as many channels as the first."""
    return nn.Sequential(
        sound_block(channels, width), sound_block(width, 2 * width), sound_block(2 * width, 4 * width)
    )


class SoundFeatures(nn.Module):
    """Features of pictures of sound: the mean and the maximum of the convolutions over time and bands.

    In training the loudness of each picture is changed, and some of its frames and bands are hidden.

    Args:
        channels: C of a picture.
        num_bands: M; each band is normalised by its own mean and deviation (as PANNs, Kong et al. 2020).
        width: channels of the first convolution.
    """

    def __init__(self, channels: int, num_bands: int, *, width: int = 16) -> None:
        super().__init__()
        self.dim = 8 * width
        self.bands = nn.BatchNorm2d(num_bands)
        self.sound = sound_convolutions(channels, width)

    def forward(self, nats: Tensor) -> Tensor:
        """Return (B, dim, 1, 1) features of (B, C, F, M) pictures, in nats above silence."""
        if self.training:
            nats = augmented(nats)
        normalised = self.bands(nats.permute(0, 3, 2, 1)).permute(0, 3, 2, 1)
        maps = self.sound(normalised)
        return torch.cat([maps.mean((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)], 1)


def augmented(nats: Tensor) -> Tensor:
    """Change the loudness of (B, C, F, M) pictures, and hide some frames and some bands of each."""
    count, _, num_frames, num_bands = nats.shape
    device = nats.device
    gain = (2 * torch.rand(count, 1, 1, device=device) - 1) * _GAIN
    changed = nats.clone()
    changed[:, 0] = torch.where(nats[:, 0] > 0, (nats[:, 0] + gain).clamp(min=0.0), nats[:, 0])
    keeps_frames = ~_span(count, num_frames, _MASKED[0], device)
    keeps_bands = ~_span(count, num_bands, _MASKED[1], device)
    return changed * keeps_frames[:, None, :, None] * keeps_bands[:, None, None, :]


def _span(count: int, length: int, share: float, device: torch.device) -> Tensor:
    """Return (count, length) masks of one random span each, of up to `share` of the length."""
    lengths = (torch.rand(count, 1, device=device) * share * length).floor()
    begins = (torch.rand(count, 1, device=device) * (length - lengths + 1)).floor()
    places = torch.arange(length, device=device)
    return (places >= begins) & (places < begins + lengths)
