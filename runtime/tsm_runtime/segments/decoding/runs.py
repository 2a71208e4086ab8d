"""Labels of each frame, and runs of frames with one label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_runtime.results import BACKGROUND
from tsm_runtime.segments.decoding.durations import (
    LengthTable,
    best_segments,
    candidate_borders,
    length_table,
)
from tsm_runtime.segments.decoding.settings import Decoding
from tsm_runtime.segments.decoding.viterbi import best_path

Rows = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True, slots=True)
class FrameLabeller:
    """Decides which labels the frames of a piece have.

    Args:
        labels: A action labels; with `BACKGROUND` among them each frame has one label at most.
        step_seconds: length of a frame.
        decoding: the method and its settings; `proposals` labels frames as `merge`.
        thresholds: one per label of a sigmoid head; empty for a softmax head.
    """

    labels: tuple[str, ...]
    step_seconds: float
    decoding: Decoding
    thresholds: tuple[float, ...] = ()

    def __call__(self, action: Rows, actionness: Rows | None = None) -> Mask:
        """Return (F, A): whether a frame has a label; the background is never set.

        Args:
            action: (F, A) probabilities of a piece without gaps.
            actionness: (F,) probability of any action, or None.
        """
        if not len(action):
            return np.zeros(action.shape, bool)
        if self.thresholds:
            return self._independent(action, actionness)
        present = np.zeros(action.shape, bool)
        present[np.arange(len(action)), self._path(self._log_scores(action, actionness))] = True
        if self.background is not None:
            present[:, self.background] = False
        return present

    @property
    def background(self) -> int | None:
        """Column of the background, or None."""
        return self.labels.index(BACKGROUND) if BACKGROUND in self.labels else None

    def _independent(self, action: Rows, actionness: Rows | None) -> Mask:
        """Decode each label of a sigmoid head independently: present or, as its threshold decides, absent."""
        limits = np.array(self.thresholds, np.float32)
        if self.decoding.method in ("merge", "proposals"):
            return action >= limits
        on = _logit(action) - _logit(limits)
        if actionness is not None and self.decoding.actionness_weight:
            on += self.decoding.actionness_weight * _logit(actionness)[:, None]
        present = np.empty(action.shape, bool)
        for column, label in enumerate(self.labels):
            either = np.stack([on[:, column], np.zeros(len(on), np.float32)], axis=1)
            present[:, column] = self._path(either, (label, BACKGROUND)) == 0
        return present

    def _log_scores(self, action: Rows, actionness: Rows | None) -> Rows:
        if self.decoding.method in ("merge", "proposals") and actionness is None:
            return action
        logs = np.log(np.maximum(action, _LEAST_PROBABILITY))
        weight = self.decoding.actionness_weight
        if actionness is not None and weight:
            any_action = np.clip(actionness, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)[:, None]
            bonus = np.repeat(weight * np.log(any_action), action.shape[1], axis=1)
            if self.background is not None:
                bonus[:, self.background] = weight * np.log(1 - any_action[:, 0])
            logs = logs + bonus
        return logs

    def _path(self, log_scores: Rows, labels: tuple[str, ...] = ()) -> npt.NDArray[np.int64]:
        decoding, labels = self.decoding, labels or self.labels
        if decoding.method == "viterbi":
            return best_path(log_scores, decoding.switch_cost)
        if decoding.method == "durations":
            return self._semi_markov(log_scores, labels)
        path: npt.NDArray[np.int64] = log_scores.argmax(axis=1)
        return path

    def _semi_markov(self, log_scores: Rows, labels: tuple[str, ...]) -> npt.NDArray[np.int64]:
        background = labels.index(BACKGROUND) if BACKGROUND in labels else None
        borders = candidate_borders(log_scores, background)
        table = self._table(labels)
        path = np.empty(len(log_scores), np.int64)
        for start, stop, label in best_segments(log_scores, table, self.decoding.switch_cost, borders):
            path[start:stop] = label
        return path

    def _table(self, labels: Sequence[str]) -> LengthTable:
        priors = [prior for prior in self.decoding.lengths if prior.label in labels]
        return length_table(priors, labels, self.step_seconds, self.decoding.length_weight)


def runs_of(present: Mask) -> list[tuple[int, int, int]]:
    """Return the runs (first frame, stop frame, label) of (F, A), by label and time."""
    padded = np.zeros((present.shape[1], len(present) + 2), np.int8)
    padded[:, 1:-1] = present.T
    edges = np.diff(padded, axis=1)
    labels, starts = np.nonzero(edges == 1)
    _, stops = np.nonzero(edges == -1)
    return list(zip(starts.tolist(), stops.tolist(), labels.tolist(), strict=True))


def _logit(probability: Rows) -> Rows:
    clipped = np.clip(probability, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    logit: Rows = np.log(clipped / (1 - clipped))
    return logit
