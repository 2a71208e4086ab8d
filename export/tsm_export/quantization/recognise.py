"""Recognition of parts of a graph by their results, whatever operators they consist of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_export.graphs.index import GraphIndex
from tsm_export.graphs.session import evaluate_part

_NUM_CLIPS = 2
"""Two, so that what passes from a clip into its neighbour shows."""

_SEED = 0
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Shift:
    """A temporal shift of (T*N, C, H, W), frames in the order of time.

    The first `following` channels come from the next frame, the next `preceding` ones from the previous
    frame, the rest stay; zeros come in where a clip ends.
    """

    num_frames: int
    channels: int
    height: int
    width: int
    following: int
    preceding: int


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Frames (N, T, H, W, 3) to (T*N, 3, H, W) in the order of time: pixel * scale + offset, (3,) float64."""

    size: int
    scale: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]


def recognise_shift(index: GraphIndex, source: str, result: str) -> Shift | None:
    """Return the temporal shift that makes one tensor from another, or None if it is something else.

    Two clips of random numbers go in; what comes out must be the shift, bit for bit.
    """
    num_frames = index.sizes(index.inputs[0])[0]
    sizes = index.sizes(source)
    if len(sizes) != 3 or 0 in sizes or index.sizes(result) != sizes:
        return None
    rng = np.random.default_rng(_SEED)
    clips = 0.5 + rng.random((num_frames, _NUM_CLIPS, *sizes), np.float32)  # zeros come from borders alone
    frames = np.zeros((_NUM_CLIPS, *index.sizes(index.inputs[0])), np.uint8)
    given = {index.inputs[0]: frames, source: clips.reshape(-1, *sizes)}
    got = evaluate_part(index, given, result)
    if got.shape != given[source].shape:
        return None
    got = got.reshape(clips.shape)
    following = _leading(_same_channels(got[:-1], clips[1:], got[-1]))
    preceding = _leading(_same_channels(got[1:], clips[:-1], got[0])[following:])
    moved = following + preceding
    if not np.array_equal(got[:, :, moved:], clips[:, :, moved:]):
        return None
    return Shift(num_frames, *sizes, following, preceding)


def _same_channels(
    got: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], border: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    """(C,) whether a channel holds what is expected and zeros at the border."""
    same: npt.NDArray[np.bool_] = (got == expected).all(axis=(0, 1, 3, 4)) & (border == 0).all(axis=(0, 2, 3))
    return same


def _leading(flags: npt.NDArray[np.bool_]) -> int:
    """Return how many flags are true before the first that is not."""
    return len(flags) if flags.all() else int(flags.argmin())


def recognise_normalisation(index: GraphIndex, result: str) -> Normalisation | None:
    """Return the pixel normalisation that makes a tensor from the model's input, or None if it is none."""
    num_frames, *picture = index.sizes(index.inputs[0])
    if len(picture) != 3 or picture[0] != picture[1] or picture[2] != 3:
        return None
    rng = np.random.default_rng(_SEED)
    frames = rng.integers(0, 256, (_NUM_CLIPS, num_frames, *picture), np.uint8)
    got = evaluate_part(index, {index.inputs[0]: frames}, result)
    pixels = frames.swapaxes(0, 1).reshape(-1, *picture).transpose(0, 3, 1, 2).astype(np.float64)
    if got.shape != pixels.shape:
        return None
    lines = [np.polyfit(pixels[0, c].ravel(), got[0, c].ravel(), 1) for c in range(3)]
    scale, offset = np.array(lines).T
    fitted = pixels * scale[:, None, None] + offset[:, None, None]
    if np.abs(fitted - got).max() > _TOLERANCE * np.abs(got).max():
        return None
    return Normalisation(picture[0], scale, offset)
