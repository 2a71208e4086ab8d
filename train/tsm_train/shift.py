"""The temporal shift, and the 1x1 convolution that applies it to its input (TSM, arXiv 1811.08383)."""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FOLD_DIV", "ShiftedConv2d", "temporal_shift"]

FOLD_DIV = 8
"""The original's share: one channel in eight looks forward, one in eight looks back."""


def temporal_shift(x: Tensor, num_frames: int, fold_div: int = FOLD_DIV) -> Tensor:
    """Exchange channels between neighbouring frames of a clip.

    With f = C // fold_div: channels [0, f) come from the next frame, channels [f, 2f) from the previous
    one, the rest stay. Where a clip ends, zeros come in; nothing passes between two clips of a batch.

    Args:
        x: (N*T, C, H, W), the T frames of a clip consecutive.
        num_frames: T.
        fold_div: at least 2.

    Returns:
        A tensor of the same shape.

    Raises:
        ValueError: N*T is not a multiple of `num_frames`, or `fold_div` is below 2.
    """
    batch, channels, height, width = x.shape
    if batch % num_frames:
        raise ValueError(f"expected a multiple of {num_frames} frames (N*T), got {batch}")
    fold = _fold(channels, fold_div)
    if fold == 0:
        return x
    if not torch.compiler.is_exporting() and x.is_contiguous(memory_format=torch.channels_last):
        # Channels last in memory, as training has it: shifting along the last axis needs no transposition.
        pixels = x.permute(0, 2, 3, 1).reshape(-1, num_frames, height * width, channels)
        return _shift(pixels, fold, axis=3).reshape(-1, height, width, channels).permute(0, 3, 1, 2)
    # -1 stands on the batch axis alone, so that an exported graph keeps every other size constant.
    clips = x.reshape(-1, num_frames, channels, height * width)
    return _shift(clips, fold, axis=2).reshape(-1, channels, height, width)


def _fold(channels: int, fold_div: int) -> int:
    if fold_div < 2:
        raise ValueError(f"fold_div must be at least 2 (there are two shifted groups), got {fold_div}")
    return channels // fold_div


def _shift(clips: Tensor, fold: int, axis: int) -> Tensor:
    """Shift a (N, T, ., .) tensor whose channels lie on `axis`.

    Split, slice, pad and cat, because these export as four plain operators. Writing into slices of a
    tensor of zeros becomes a constant in TensorRT, and a multiplied border mask lets Inf * 0 = NaN pass
    from one clip into the next.
    """
    following, preceding, still = torch.split(clips, [fold, fold, clips.shape[axis] - 2 * fold], axis)
    following = F.pad(following[:, 1:], (0, 0, 0, 0, 0, 1))
    preceding = F.pad(preceding[:, :-1], (0, 0, 0, 0, 1, 0))
    return torch.cat([following, preceding, still], axis)


class ShiftedConv2d(nn.Conv2d):
    """A convolution that shifts its input first.

    It is a `Conv2d` and not a wrapper around one, so the state dict keeps the plain backbone's keys
    (`layer1.0.conv1.weight`) and ImageNet weights load without renaming.

    Args:
        *args: as for `nn.Conv2d`.
        num_frames: T.
        fold_div: see `temporal_shift`.
        **kwargs: as for `nn.Conv2d`.
    """

    def __init__(self, *args: Any, num_frames: int, fold_div: int = FOLD_DIV, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _fold(self.in_channels, fold_div)
        self.num_frames = num_frames
        self.fold_div = fold_div

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, num_frames: int, fold_div: int = FOLD_DIV) -> Self:
        """Return a shifted convolution that shares `conv`'s parameters.

        Raises:
            TypeError: `conv` is a subclass of `nn.Conv2d`, whose own forward would be lost.
        """
        if type(conv) is not nn.Conv2d:
            raise TypeError(f"only a plain torch.nn.Conv2d can be shifted, got {type(conv).__name__}")
        shifted = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            bias=conv.bias is not None,
            padding_mode=conv.padding_mode,
            device="meta",  # no memory and no random numbers for weights that are replaced at once
            num_frames=num_frames,
            fold_div=fold_div,
        )
        shifted.weight = conv.weight
        shifted.bias = conv.bias
        return shifted.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """Shift and convolve (N*T, C, H, W)."""
        return super().forward(temporal_shift(x, self.num_frames, self.fold_div))

    def extra_repr(self) -> str:
        """Name the shift beside the convolution's own settings."""
        plain = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{plain}, num_frames={self.num_frames}, fold_div={self.fold_div}"
