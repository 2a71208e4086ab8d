"""The temporal head: features of a video's frames to class, actionness and distances to the bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_KERNEL = 3


class TemporalHead(nn.Module):
    """A residual network of dilated 1-D convolutions over the pooled features of frames.

    Every layer looks at a frame's neighbours and nothing else: normalisation is over the channels of one
    frame. So the outputs of a frame depend on `reach` frames before it, and as many after it unless the head
    is causal, and a long video may be processed in chunks that overlap.

    The class logits are a learnt multiple of the backbone's own logits of the frame plus a correction, which
    is zero before training (residual learning as in MS-TCN, arXiv 1903.01945; distances as in ActionFormer,
    arXiv 2202.07925, 3.2).

    Args:
        feature_dim: D, width of a frame's features.
        num_actions: A, outputs of the backbone's action head.
        frame_seconds: time from one frame to the next.
        width: channels of the convolutions, a multiple of 8.
        dilations: of the convolutions, each of which has three taps.
        dropout: after each convolution.
        input_dropout: on the features.
        causal: frames see earlier frames alone.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        feature_dim: int,
        num_actions: int,
        *,
        frame_seconds: float,
        width: int = 96,
        dilations: Sequence[int] = (1, 2, 4, 8, 16),
        dropout: float = 0.3,
        input_dropout: float = 0.5,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.frame_seconds = frame_seconds
        self.dilations = tuple(dilations)
        self.causal = causal
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("std", torch.ones(feature_dim))
        # The backbone's linear head; of its own so that features are the only input.
        self.frame_head = nn.Linear(feature_dim, num_actions).requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(1))
        self.input_dropout = nn.Dropout(input_dropout)
        self.reduce = nn.Linear(feature_dim, width)
        self.blocks = nn.ModuleList(_Block(width, d, dropout, causal) for d in self.dilations)
        self.norm = nn.LayerNorm(width)
        self.action = nn.Linear(width, num_actions)
        self.actionness = nn.Linear(width, 1)
        self.distances = nn.Linear(width, 2)
        nn.init.zeros_(self.action.weight)
        nn.init.zeros_(self.action.bias)
        nn.init.constant_(self.distances.bias, 1.0)

    @property
    def reach(self) -> int:
        """Frames on each side that an output depends on; of a causal head those before it, twice as many."""
        return sum(self.dilations) * (2 if self.causal else 1)

    @property
    def context(self) -> tuple[int, int]:
        """Frames before and after a frame that its outputs depend on."""
        return self.reach, 0 if self.causal else self.reach

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Score the frames of windows.

        Args:
            features: (N, L, D) float32.
            mask: (N, L, 1), 1 where there is a frame and 0 where a window is filled up; None: all are frames.

        Returns:
            Class logits (N, L, A), actionness logits (N, L), and distances (N, L, 2) in seconds from the
            frame's middle back to the start of its action and on to its end.
        """
        x = self.reduce(self.input_dropout((features - self.mean) / self.std))
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        logits = self.scale * self.frame_head(features) + self.action(x)
        distances = F.softplus(self.distances(x)) * self.frame_seconds
        return logits, self.actionness(x).squeeze(2), distances


class HeadGroup(nn.Module):
    """Heads of one kind but different seeds, whose outputs are averaged (logits, and distances in seconds).

    Args:
        heads: one at least.
    """

    def __init__(self, heads: Sequence[TemporalHead]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    @property
    def first(self) -> TemporalHead:
        """The first head; all have its form, and its mean and spread of the features."""
        return cast("TemporalHead", self.heads[0])

    @property
    def frame_seconds(self) -> float:
        """Time from one frame to the next."""
        return self.first.frame_seconds

    @property
    def context(self) -> tuple[int, int]:
        """As of one head."""
        return self.first.context

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the means of the outputs of `TemporalHead.forward`."""
        outputs = [head(features, mask) for head in self.heads]
        logits, actionness, distances = (
            sum(parts[1:], parts[0]) / len(parts) for parts in zip(*outputs, strict=True)
        )
        return logits, actionness, distances


AnyHead = TemporalHead | HeadGroup


class HeadProbabilities(nn.Module):
    """What is deployed: probabilities in place of logits.

    Args:
        head: its mode is left as it is.
        sigmoid: each action on its own.
    """

    def __init__(self, head: AnyHead, *, sigmoid: bool) -> None:
        super().__init__()
        self.head = head
        self.sigmoid = sigmoid

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return action scores (N, L, A), actionness (N, L) and distances (N, L, 2) of features (N, L, D)."""
        logits, actionness, distances = self.head(features)
        scores = logits.sigmoid() if self.sigmoid else logits.softmax(2)
        return scores, actionness.sigmoid(), distances


def dilations_for(receptive_seconds: float, frame_seconds: float) -> tuple[int, ...]:
    """Return the dilations 1, 2, 4 ... whose receptive field is at least so long.

    >>> dilations_for(4.0, 0.125)
    (1, 2, 4, 8, 16)
    """
    frames = receptive_seconds / frame_seconds
    count = max(1, math.ceil(math.log2((frames + 1) / 2) - 1e-9)) if frames > 1 else 1
    while 2 * (2**count - 1) + 1 < frames:
        count += 1
    return tuple(2**i for i in range(count))


class _Block(nn.Module):
    """x + f(x), f: normalise, dilated convolution, GELU, mix the channels, dropout."""

    def __init__(self, width: int, dilation: int, dropout: float, causal: bool) -> None:
        super().__init__()
        span = dilation * (_KERNEL - 1)
        self.padding = (span, 0) if causal else (span // 2, span // 2)
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, _KERNEL, dilation=dilation)
        self.mix = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return (N, L, C) of (N, L, C)."""
        y = self.norm(x)
        if mask is not None:
            y = y * mask
        y = F.pad(y.transpose(1, 2), self.padding)
        y = F.gelu(self.conv(y)).transpose(1, 2)
        mixed: Tensor = self.dropout(self.mix(y))
        return x + mixed
