"""The temporal shift, and the 1x1 convolution that applies it to its input (TSM, arXiv 1811.08383)."""

from __future__ import annotations

from typing import Any, Self, get_args

import torch
from torch import Tensor, nn

from tsm_runtime.bundle.manifest import ShiftDirection

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
        x: (T*N, C, H, W), frames in the order of time: the first frames of all N clips, then the second ones.
            A shift by one frame is then a shift by N rows: nothing has to be reshaped, and between two clips
            there is no border that a mask would have to guard.
        num_frames: T.
        fold_div: at least 2.
        direction: which frames the shifted channels come from.

    Returns:
        A tensor of the same shape.

    Raises:
        ValueError: T*N is not a multiple of `num_frames`, `fold_div` is below 2, or there is no such
            direction.
    """
    _check_direction(direction)
    batch, channels, height, width = x.shape
    if batch % num_frames:
        raise ValueError(f"expected a multiple of {num_frames} frames (T*N), got {batch}")
    fold = _fold(channels, fold_div)
    if fold == 0:
        return x
    if not torch.compiler.is_exporting() and x.is_contiguous(memory_format=torch.channels_last):
        # Channels last in memory, as training has it: the same on (T, N*H*W, C), whose rows lie in one piece.
        pixels = x.permute(0, 2, 3, 1).reshape(num_frames, -1, channels)
        return _shift(pixels, 1, fold, 2, direction).reshape(-1, height, width, channels).permute(0, 3, 1, 2)
    return _shift(x, batch // num_frames, fold, 1, direction)


def _check_direction(direction: str) -> None:
    if direction not in get_args(ShiftDirection):
        raise ValueError(f"direction: expected one of {get_args(ShiftDirection)}, got {direction!r}")


def _fold(channels: int, fold_div: int) -> int:
    if fold_div < 2:
        raise ValueError(f"fold_div must be at least 2 (there are two shifted groups), got {fold_div}")
    return channels // fold_div


def _shift(x: Tensor, step: int, fold: int, axis: int, direction: ShiftDirection) -> Tensor:
    """Shift a tensor whose channels lie on `axis`, and in which a frame is `step` rows.

    Split, slice and cat, because these export as plain operators that keep four axes, so that engines can
    keep their own memory layouts around them. Writing into slices of a tensor of zeros becomes a constant in
    TensorRT, padding is slow on GPUs, and a multiplied border mask lets Inf * 0 = NaN pass from one clip
    into the next. `benchmarks/shift_graph.py` compares them.
    """
    channels = x.shape[axis]
    if direction == "past":
        preceding, still = torch.split(x, [fold, channels - fold], axis)
        return torch.cat([_later(preceding, step), still], axis)
    following, preceding, still = torch.split(x, [fold, fold, channels - 2 * fold], axis)
    return torch.cat([_earlier(following, step), _later(preceding, step), still], axis)


def _later(x: Tensor, step: int) -> Tensor:
    """Move rows one frame later; zeros come in at the begin."""
    return torch.cat([x.new_zeros((step, *x.shape[1:])), x[:-step]])


def _earlier(x: Tensor, step: int) -> Tensor:
    """Move rows one frame earlier; zeros come in at the end."""
    return torch.cat([x[step:], x.new_zeros((step, *x.shape[1:]))])


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
        """Shift and convolve (T*N, C, H, W)."""
        return super().forward(temporal_shift(x, self.num_frames, self.fold_div, self.direction))

    def extra_repr(self) -> str:
        """Name the shift beside the convolution's own settings."""
        plain = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{plain}, num_frames={self.num_frames}, fold_div={self.fold_div}, direction={self.direction}"
