"""Ways to write the temporal shift that this project does not use, for shift_graph.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def split_pad(x: Tensor, t: int, f: int) -> Tensor:
    """Split, slice and pad on [N, T, C, H*W]."""
    _, c, h, w = x.shape
    a, b, r = x.reshape(-1, t, c, h * w).split([f, f, c - 2 * f], 2)
    a = F.pad(a[:, 1:], (0, 0, 0, 0, 0, 1))
    b = F.pad(b[:, :-1], (0, 0, 0, 0, 1, 0))
    return torch.cat([a, b, r], 2).reshape(-1, c, h, w)


def slice_concat(x: Tensor, t: int, f: int) -> Tensor:
    """Slice and concat with zeros in 5-D."""
    _, c, h, w = x.shape
    clips = x.reshape(-1, t, c, h, w)
    zeros = torch.zeros_like(clips[:, :1, :f])
    a = torch.cat([clips[:, 1:, :f], zeros], 1)
    b = torch.cat([zeros, clips[:, :-1, f : 2 * f]], 1)
    return torch.cat([a, b, clips[:, :, 2 * f :]], 2).reshape(-1, c, h, w)


def gather(x: Tensor, t: int, f: int) -> Tensor:
    """One Gather over (frame, channel) rows of a clip with a row of zeros after them."""
    _, c, h, w = x.shape
    rows = F.pad(x.reshape(-1, t * c, h * w), (0, 0, 0, 1))
    frame, channel = np.mgrid[0:t, 0:c]
    source = frame + np.where(channel < f, 1, np.where(channel < 2 * f, -1, 0))
    index = np.where((source < 0) | (source >= t), t * c, source * c + channel)
    return rows[:, torch.from_numpy(index.ravel())].reshape(-1, c, h, w)


def _rolled(x: Tensor, f: int) -> tuple[Tensor, Tensor, Tensor]:
    a, b, r = x.split([f, f, x.shape[1] - 2 * f], 1)
    return torch.cat([a[1:], a[:1]]), torch.cat([b[-1:], b[:-1]]), r


def _inside(x: Tensor, t: int, step: int) -> Tensor:
    frame = torch.arange(x.shape[0]) % t
    return ((frame + step >= 0) & (frame + step < t)).reshape(-1, 1, 1, 1)


def mask_4d(x: Tensor, t: int, f: int) -> Tensor:
    """In 4-D, the frames rolled, borders multiplied by 0: leaks Inf into the neighbouring clip."""
    a, b, r = _rolled(x, f)
    return torch.cat([a * _inside(x, t, 1), b * _inside(x, t, -1), r], 1)


def where_4d(x: Tensor, t: int, f: int) -> Tensor:
    """In 4-D, the frames rolled, borders chosen by Where."""
    a, b, r = _rolled(x, f)
    zero = torch.zeros((), dtype=x.dtype)
    return torch.cat([torch.where(_inside(x, t, 1), a, zero), torch.where(_inside(x, t, -1), b, zero), r], 1)


FORMS: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "split+pad": split_pad,
    "slice+concat": slice_concat,
    "gather": gather,
    "4-D mask": mask_4d,
    "4-D where": where_4d,
}
"""Each takes (N*T, C, H, W), all frames of a clip before the next."""
