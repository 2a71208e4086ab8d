"""The best sequence of segments when each label has a distribution of lengths (semi-Markov decoding).

Maximises, over all divisions of a piece into segments of different neighbouring labels,

    sum over segments of  sum_f s[f, label] + weight * log p(length | label) - switch cost per change,

by the Viterbi recursion of explicit-duration models (Rabiner 1989, section IV.D; Yu 2010, section 3.1).
Labels without a prior, as the background, take any length. Lengths beyond the bound of the table follow a
geometric tail. A segment that begins or ends with its piece may be cut off there: it counts with the
probability of its length or more.

Segments change only at candidate frames, see `candidate_borders`: at every frame of a short piece, else where
the best path of labels changes, with and without a bias towards the background.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.segments.decoding.settings import LengthPrior
from tsm_runtime.segments.decoding.viterbi import best_path

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_EVERY_FRAME_UP_TO = 48
_BACKGROUND_BIASES = (2.0, -2.0)
_BORDER_COST = 2.0
"""Cost of a label change; a stretch that gains less than twice this over its surroundings has no borders."""
_MOST_TABLE_FRAMES = 4096
_TAIL_DEVIATIONS = 2.5
"""End of the table in standard deviations above the mean of the logarithm."""


@dataclass(frozen=True, slots=True)
class LengthTable:
    """Log probabilities of lengths in frames.

    Args:
        log_mass: (D + 1, A), for a length of d frames; 0 for labels without a prior.
        log_survival: (D + 1, A), for a length of d frames or more.
        log_decay: (A,), added by each frame beyond D, 0 or less.
    """

    log_mass: Floats
    log_survival: Floats
    log_decay: Floats


def length_table(
    priors: Sequence[LengthPrior], labels: Sequence[str], step_seconds: float, weight: float = 1.0
) -> LengthTable:
    """Return the length table of all labels; labels without a prior have no preferred length.

    Args:
        priors: priors of some or all labels.
        labels: A action labels, in the order of the scores.
        step_seconds: length of a frame.
        weight: factor of the log probabilities.
    """
    by_label = {prior.label: prior for prior in priors}
    longest = [math.exp(p.mean_log + _TAIL_DEVIATIONS * p.std_log) / step_seconds for p in priors]
    bound = min(_MOST_TABLE_FRAMES, max([2, *map(math.ceil, longest)]))
    mass, survival = np.zeros((2, bound + 1, len(labels)))
    for column, label in enumerate(labels):
        if (prior := by_label.get(label)) is not None:
            at_least = _log_normal_survival(
                prior, (np.arange(bound + 2, dtype=np.float64) - 0.5) * step_seconds
            )
            survival[:, column] = np.log(np.maximum(at_least[:-1], 1e-30))
            mass[:, column] = np.log(np.maximum(at_least[:-1] - at_least[1:], 1e-30))
    decay = np.minimum(mass[-1] - mass[-2], 0.0)
    return LengthTable(weight * mass, weight * survival, weight * decay)


def _log_normal_survival(prior: LengthPrior, seconds: Floats) -> Floats:
    """Return P(length >= seconds)."""
    scale = prior.std_log * math.sqrt(2)
    return np.array(
        [1.0 if s <= 0 else 0.5 * math.erfc((math.log(s) - prior.mean_log) / scale) for s in seconds.tolist()]
    )


def candidate_borders(log_scores: npt.NDArray[np.floating], background: int | None) -> Ints:
    """Return the frames at which segments may begin and end, 0 and F among them, increasing.

    Args:
        log_scores: (F, A).
        background: column of the background, if there is one.
    """
    num_frames = len(log_scores)
    if num_frames <= _EVERY_FRAME_UP_TO:
        return np.arange(num_frames + 1)
    paths = [best_path(log_scores, _BORDER_COST)]
    if background is not None:
        others = log_scores[:, :background], log_scores[:, background + 1 :]
        lead = log_scores[:, background] - np.maximum(*(part.max(axis=1, initial=-np.inf) for part in others))
        for bias in _BACKGROUND_BIASES:
            either = np.stack([lead + bias, np.zeros_like(lead)], axis=1)
            paths.append(best_path(either, _BORDER_COST))
    changes = np.any([path[1:] != path[:-1] for path in paths], axis=0)
    return np.concatenate([[0], np.flatnonzero(changes) + 1, [num_frames]])


def best_segments(
    log_scores: npt.NDArray[np.floating], table: LengthTable, switch_cost: float, borders: Ints
) -> list[tuple[int, int, int]]:
    """Return the best segments (start frame, stop frame, label) of a piece, in order; they cover it.

    Args:
        log_scores: (F, A).
        table: log probabilities of the lengths.
        switch_cost: cost of a change of label, 0 or more.
        borders: frames at which segments may begin and end, from 0 to F.
    """
    total = np.zeros((len(borders), log_scores.shape[1]))
    np.cumsum(np.add.reduceat(log_scores, borders[:-1], axis=0, dtype=np.float64), axis=0, out=total[1:])
    begun, entered_from = _forward(total, table, switch_cost, borders)
    found: list[tuple[int, int, int]] = []
    stop = len(borders) - 1
    label = int(entered_from[stop, 0])
    while stop > 0:
        start = int(begun[stop, label])
        found.append((int(borders[start]), int(borders[stop]), label))
        stop, label = start, int(entered_from[start, 1 if entered_from[start, 0] == label else 0])
    return found[::-1]


def _forward(total: Floats, table: LengthTable, switch_cost: float, borders: Ints) -> tuple[Ints, Ints]:
    """Run the recursion over the borders.

    Returns:
        For each border and label the border where the best segment that ends there began; and for each border
        the two best labels that end there.
    """
    num_borders, num_labels = total.shape
    bound = len(table.log_mass) - 1
    firsts = np.searchsorted(
        borders, borders - bound
    ).tolist()  # earliest start within the bound of the table
    entry = np.full((num_borders, num_labels), -np.inf)  # best score before a segment, less the sum before
    entry[0] = 0.0
    begun = np.zeros((num_borders, num_labels), np.int64)
    best_labels = np.zeros((num_borders, 2), np.int64)
    far = _FarStarts(table, borders)
    columns = np.arange(num_labels)
    for stop in range(1, num_borders):
        first = firsts[stop]
        is_last = stop == num_borders - 1
        logs = table.log_survival if is_last else table.log_mass
        scores = entry[first:stop] + logs[borders[stop] - borders[first:stop]]
        if not first:
            scores[0] = table.log_survival[borders[stop]]
        place = scores.argmax(axis=0) if len(scores) else columns
        ended = scores[place, columns] if len(scores) else np.full(num_labels, -np.inf)
        begun[stop] = first + place
        if first:
            far.move(entry, first)
            far.improve(stop, logs, ended, begun[stop])
        ended += total[stop]
        best = int(ended.argmax())
        entry[stop] = ended[best] - switch_cost - total[stop]
        ended[best] = -np.inf
        second = int(ended.argmax())
        entry[stop, best] = ended[second] - switch_cost - total[stop, best]
        best_labels[stop] = best, second
    return begun, best_labels


class _FarStarts:
    """The best starts of segments that are longer than the table, one for each label.

    Args:
        table: log probabilities of the lengths.
        borders: frames of the borders.
    """

    def __init__(self, table: LengthTable, borders: Ints) -> None:
        self._table, self._borders = table, borders
        self._value = np.full(len(table.log_decay), -np.inf)
        self._begun = np.zeros(len(table.log_decay), np.int64)
        self._num_moved = 1

    def move(self, entry: Floats, first: int) -> None:
        """Take the starts of the borders before `first`; that of the piece's begin is known."""
        for border in range(self._num_moved, first):
            value = entry[border] - self._table.log_decay * self._borders[border]
            is_better = value > self._value
            self._value[is_better] = value[is_better]
            self._begun[is_better] = border
        self._num_moved = max(self._num_moved, first)

    def improve(self, stop: int, logs: Floats, ended: Floats, begun: Ints) -> None:
        """Put the segments that end at a border where they are better than the given ones.

        Args:
            stop: number of the border.
            logs: log probabilities of the lengths there.
            ended: (A,) scores of the given segments, replaced in place.
            begun: (A,) borders where they begin, replaced in place.
        """
        table = self._table
        bound = len(table.log_mass) - 1
        beyond, from_begin = self._value + logs[bound], table.log_survival[bound]
        far = np.maximum(beyond, from_begin)
        far += table.log_decay * (self._borders[stop] - bound)
        better = far > ended
        if better.any():
            ended[better] = far[better]
            begun[better] = np.where(beyond >= from_begin, self._begun, 0)[better]
