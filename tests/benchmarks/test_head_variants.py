"""What the benchmark of the temporal head's options counts, and how it averages heads."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tsm_runtime.results import FrameScores, Segment

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from head_variants import mean_frames, missed


def segment(label: str, start: float, end: float) -> Segment:
    return Segment(label=label, start_seconds=start, end_seconds=end)


def test_missed_instances_of_the_label_and_of_any() -> None:
    truth = {"v": [segment("walk", 0, 2), segment("wave", 3, 5)], "w": [segment("walk", 0, 1)]}
    found = {"v": [segment("walk", 0.2, 2), segment("walk", 3, 5), segment("wave", 4.5, 6)]}
    assert missed(truth, found) == {"label": 2, "any": 1}


def test_heads_are_averaged_frame_by_frame() -> None:
    def frames(value: float) -> FrameScores:
        rows = np.full((3, 2), value, np.float32)
        return FrameScores(
            indices=np.arange(3), step_seconds=0.1, action=rows, actionness=rows[:, 0], distances=rows
        )

    mean = mean_frames([{"v": frames(0.25)}, {"v": frames(0.75)}])["v"]
    np.testing.assert_array_equal(mean.action, np.full((3, 2), 0.5, np.float32))
    assert mean.actionness is not None
    assert mean.actionness.tolist() == [0.5] * 3
    assert len(mean) == 3
