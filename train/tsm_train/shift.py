"""The temporal shift, and the 1x1 convolution that applies it to its input (TSM, arXiv 1811.08383)."""

from __future__ import annotations

from typing import Any, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsm_runtime.bundle import ShiftDirection

__all__ = ["FOLD_DIV", "ShiftedConv2d", "temporal_shift"]

FOLD_DIV = 8
"""The original's share: one channel in eight looks forward, one in eight looks back."""


def temporal_shift(
    x: Tensor, num_frames: int, fold_div: int = FOLD_DIV, direction: ShiftDirection = "both"
) -> Tensor:
    """Exchange channels between neighbouring frames of a clip.

    With f = C // fold_div: channels [0, f) come from the next frame, channels [f, 2f) from the previous
    one, the rest stay. Where a clip ends, zeros come in; nothing passes between two clips of a batch.
    With direction "past" channels [0, f) come from the previous frame and all others stay (the online
    model of the paper's section 4.2, channel for channel as in the original's online_demo).

    Args:
        x: (N*T, C, H, W), the T frames of a clip consecutive.
        num_frames: T.
        fold_div: at least 2.
        direction: which frames the shifted channels come from.

    Returns:
        A tensor of the same shape.

    Raises:
        ValueError: N*T is not a multiple of `num_frames`, `fold_div` is below 2, or there is no such
            direction.
    """
    _check_direction(direction)
    batch, channels, height, width = x.shape
    if batch % num_frames:
        raise ValueError(f"expected a multiple of {num_frames} frames (N*T), got {batch}")
    fold = _fold(channels, fold_div)
    if fold == 0:
        return x
    if not torch.compiler.is_exporting() and x.is_contiguous(memory_format=torch.channels_last):
        # Channels last in memory, as training has it: shifting along the last axis needs no transposition.
        pixels = x.permute(0, 2, 3, 1).reshape(-1, num_frames, height * width, channels)
        return _shift(pixels, fold, 3, direction).reshape(-1, height, width, channels).permute(0, 3, 1, 2)
    # -1 stands on the batch axis alone, so that an exported graph keeps every other size constant.
    clips = x.reshape(-1, num_frames, channels, height * width)
    return _shift(clips, fold, 2, direction).reshape(-1, channels, height, width)


def _check_direction(direction: str) -> None:
    if direction not in get_args(ShiftDirection):
        raise ValueError(f"direction: expected one of {get_args(ShiftDirection)}, got {direction!r}")


def _fold(channels: int, fold_div: int) -> int:
    if fold_div < 2:
        raise ValueError(f"fold_div must be at least 2 (there are two shifted groups), got {fold_div}")
    return channels // fold_div


def _shift(clips: Tensor, fold: int, axis: int, direction: ShiftDirection) -> Tensor:
    """Shift a (N, T, ., .) tensor whose channels lie on `axis`.

    Split, slice, pad and cat, because these export as four plain operators. Writing into slices of a
    tensor of zeros becomes a constant in TensorRT, and a multiplied border mask lets Inf * 0 = NaN pass
    from one clip into the next.
    """
    channels = clips.shape[axis]
    if direction == "past":
        preceding, still = torch.split(clips, [fold, channels - fold], axis)
        return torch.cat([_delayed(preceding), still], axis)
    following, preceding, still = torch.split(clips, [fold, fold, channels - 2 * fold], axis)
    following = F.pad(following[:, 1:], (0, 0, 0, 0, 0, 1))
    return torch.cat([following, _delayed(preceding), still], axis)


def _delayed(clips: Tensor) -> Tensor:
    """Move a (N, T, ., .) tensor one frame later; zeros come in."""
    return F.pad(clips[:, :-1], (0, 0, 0, 0, 1, 0))


class ShiftedConv2d(nn.Conv2d):
    """A convolution that shifts its input first.

    It is a `Conv2d` and not a wrapper around one, so the state dict keeps the plain backbone's keys
    (`layer1.0.conv1.weight`) and ImageNet weights load without renaming.

    Args:
        *args: as for `nn.Conv2d`.
        num_frames: T.
        fold_div, direction: see `temporal_shift`.
        **kwargs: as for `nn.Conv2d`.
    """

    def __init__(
        self,
        *args: Any,
        num_frames: int,
        fold_div: int = FOLD_DIV,
        direction: ShiftDirection = "both",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        _check_direction(direction)
        self.fold = _fold(self.in_channels, fold_div)
        self.num_frames = num_frames
        self.fold_div = fold_div
        self.direction = direction

    @classmethod
    def from_conv(
        cls,
        conv: nn.Conv2d,
        num_frames: int,
        fold_div: int = FOLD_DIV,
        direction: ShiftDirection = "both",
    ) -> Self:
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
            direction=direction,
        )
        shifted.weight = conv.weight
        shifted.bias = conv.bias
        return shifted.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """Shift and convolve (N*T, C, H, W)."""
        return super().forward(temporal_shift(x, self.num_frames, self.fold_div, self.direction))

    def extra_repr(self) -> str:
        """Name the shift beside the convolution's own settings."""
        plain = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{plain}, num_frames={self.num_frames}, fold_div={self.fold_div}, direction={self.direction}"
