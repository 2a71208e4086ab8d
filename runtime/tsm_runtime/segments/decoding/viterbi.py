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
    num_frames = len(log_scores)
    starts = np.arange(0, num_frames, _CHUNK_FRAMES)
    if len(starts) < 3:
        states: Floats = _run(log_scores[None], None, switch_cost)[0]
        return states
    num_rows = _WARM_UP_FRAMES + _CHUNK_FRAMES
    places = starts[1:, None] - _WARM_UP_FRAMES + np.arange(num_rows)
    chunks = log_scores[np.minimum(places, num_frames - 1)]
    found = _run(chunks, None, switch_cost)
    states = np.empty_like(log_scores)
    states[:_CHUNK_FRAMES] = _run(log_scores[None, :_CHUNK_FRAMES], None, switch_cost)[0]
    for number, start in enumerate(starts[1:].tolist()):
        stop = min(start + _CHUNK_FRAMES, num_frames)
        if np.array_equal(found[number, _WARM_UP_FRAMES - 1], states[start - 1]):
            states[start:stop] = found[number, _WARM_UP_FRAMES : _WARM_UP_FRAMES + stop - start]
        else:
            states[start:stop] = _run(log_scores[None, start:stop], states[start - 1 : start], switch_cost)[0]
    return states


def _run(scores: Floats, before: Floats | None, switch_cost: float) -> Floats:
    """Return the states of (B, F, A) chunks that run side by side.

    Args:
        scores: (B, F, A).
        before: (B, A), states before the first frame; None: the chunks begin there.
        switch_cost: as above.
    """
    states = np.empty_like(scores)
    steps = np.ascontiguousarray(scores.transpose(1, 0, 2))
    state = steps[0] if before is None else steps[0] + np.maximum(before, -switch_cost)
    for place in range(len(steps)):
        if place:
            state = np.maximum(state, -switch_cost)
            state += steps[place]
        state = state - state.max(axis=1, keepdims=True)
        states[:, place] = state
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
