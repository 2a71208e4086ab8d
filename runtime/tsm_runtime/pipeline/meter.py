"""Counts and times of a run, for a person or a monitor to read while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Meter:
    """What a run has done so far. One thread writes; any may read.

    Args:
        num_clips: scored, counted once for each model.
        num_frames: decoded.
        decoding_wait_seconds: that the run waited for clips; it grows where decoding is the slower side.
        scoring_wait_seconds: that the run waited for models.
        queue_depth: returns how many decoded batches wait for a model.
    """

    num_clips: int = 0
    num_frames: int = 0
    decoding_wait_seconds: float = 0.0
    scoring_wait_seconds: float = 0.0
    queue_depth: Callable[[], int] = lambda: 0
