"""The best sequence of labels under a constant cost for each change (Viterbi with a Potts model).

Maximises sum_f s[f, y_f] - cost * #{f: y_f != y_(f-1)} over all sequences y. The recursion over frames is

    best[f, a] = s[f, a] + max(best[f-1, a], max_b best[f-1, b] - cost),

which costs O(F*A) (Felzenszwalb and Huttenlocher 2004, section 3.1). Long inputs are cut into chunks that run
side by side. Each begins some frames early, with an unknown state. If the states of two chunks are equal at
their border (bit for bit, as they soon are), the result is exact; a chunk without this runs again from the
known state.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

_CHUNK_FRAMES = 256
_WARM_UP_FRAMES = 64


def best_path(log_scores: Floats, switch_cost: float) -> npt.NDArray[np.int64]:
    """Return the best sequence of labels.

    Args:
        log_scores: (F, A) log scores of the frames of one piece without gaps.
        switch_cost: cost of a change of label, 0 or more. Of equal sequences that with fewer changes wins.

    Returns:
        (F,) indices of labels.
    """
    if switch_cost == 0 or not len(log_scores):
        return np.asarray(log_scores.argmax(axis=1), np.int64)
    states = forward_states(log_scores, switch_cost)
    return _backward(states, switch_cost)


def forward_states(log_scores: Floats, switch_cost: float) -> Floats:
    """Return (F, A): the scores of the best sequences up to each frame and label, less their maximum."""
    num_frames, num_labels = log_scores.shape
    num_chunks = -(-num_frames // _CHUNK_FRAMES)
    if num_chunks < 3:
        return _run(log_scores[:, None], None, switch_cost)[:, 0]
    whole = np.pad(log_scores, ((0, num_chunks * _CHUNK_FRAMES - num_frames), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(whole, _WARM_UP_FRAMES + _CHUNK_FRAMES, axis=0)
    begins = slice(_CHUNK_FRAMES - _WARM_UP_FRAMES, None, _CHUNK_FRAMES)
    found = _run(np.ascontiguousarray(windows[begins].transpose(2, 0, 1)), None, switch_cost)
    chunks = np.empty((num_chunks, _CHUNK_FRAMES, num_labels), found.dtype)
    chunks[0] = _run(whole[:_CHUNK_FRAMES, None], None, switch_cost)[:, 0]
    chunks[1:] = found[_WARM_UP_FRAMES:].transpose(1, 0, 2)
    for number in range(1, num_chunks):
        before = chunks[number - 1, -1]
        if not np.array_equal(found[_WARM_UP_FRAMES - 1, number - 1], before):
            own = whole[number * _CHUNK_FRAMES : (number + 1) * _CHUNK_FRAMES, None]
            chunks[number] = _run(own, before[None], switch_cost)[:, 0]
    return chunks.reshape(-1, num_labels)[:num_frames]


def _run(steps: Floats, before: Floats | None, switch_cost: float) -> Floats:
    """Return the states (F, B, A) of B chunks that run side by side.

    Args:
        steps: (F, B, A) log scores.
        before: (B, A), states before the first frame; None: the chunks begin there.
        switch_cost: as above.
    """
    states = np.empty_like(steps, order="C")
    for step, state in zip(steps, states, strict=True):
        if before is None:
            state[...] = step
        else:
            np.maximum(before, -switch_cost, out=state)
            state += step
        state -= state.max(axis=1, keepdims=True)
        before = state
    return states


def _backward(states: Floats, switch_cost: float) -> npt.NDArray[np.int64]:
    """Follow the best predecessors from the last frame, a run of one label at a time."""
    num_frames = len(states)
    top = states.argmax(axis=1)
    switched = states[:-1] < -switch_cost  # the best path to frame f + 1 comes from the best label
    begins = np.zeros(states.shape, np.int32)
    begins[1:] = np.where(switched, np.arange(1, num_frames, dtype=np.int32)[:, None], 0)
    np.maximum.accumulate(begins, axis=0, out=begins)
    path = np.empty(num_frames, np.int64)
    stop, label = num_frames, int(top[-1])
    while stop > 0:
        start = int(begins[stop - 1, label])
        path[start:stop] = label
        stop, label = start, int(top[start - 1])
    return path
