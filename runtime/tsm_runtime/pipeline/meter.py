"""Counts and times of a run in progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Meter:
    """Progress of a run. One thread writes; any thread may read.

    Args:
        num_clips: scored clips, counted once for each model.
        num_frames: decoded frames.
        decoding_wait_seconds: time spent waiting for clips; it grows if decoding is the bottleneck.
        scoring_wait_seconds: time spent waiting for models.
        queue_depth: returns how many decoded batches wait for a model.
    """

    num_clips: int = 0
    num_frames: int = 0
    decoding_wait_seconds: float = 0.0
    scoring_wait_seconds: float = 0.0
    queue_depth: Callable[[], int] = lambda: 0
