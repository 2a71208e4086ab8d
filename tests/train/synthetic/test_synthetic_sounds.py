"""Sounds of drawn videos."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tsm_runtime.audio.reader import read_sound
from tsm_train.synthetic.sounds import HEARD, RATE, SILENT_CLAPS, add_sounds, sounds_of


def test_truth_and_samples_agree() -> None:
    rng = np.random.default_rng(3)
    seen = [("clapping", (2.0, 4.0)), ("waving", (6.0, 8.0)), ("clapping", (10.0, 12.0))] * 1
    labels = set()
    for _ in range(6):
        truth, samples = sounds_of(seen, 20.0, rng)
        assert samples.shape == (20 * RATE,)
        assert np.abs(samples).max() <= 1.0
        assert truth == sorted(truth, key=lambda each: (each[1], each[0]))
        assert ("waving", (6.0, 8.0)) in truth
        for label, (begin, end) in truth:
            if label in HEARD:
                assert round(begin * 25, 6).is_integer()
                assert 0 <= begin < end <= 20
        labels |= {label for label, _ in truth}
    assert labels == {*HEARD, "clapping", SILENT_CLAPS, "waving"}


def test_sound_is_added_beside_unchanged_pictures(drawn_data: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn_data / "videos", tmp_path / "videos")
    shutil.copy(drawn_data / "ground_truth.json", tmp_path)
    add_sounds(tmp_path / "ground_truth.json", tmp_path / "videos", seed=1)
    entries = json.loads((tmp_path / "ground_truth.json").read_text())["database"]
    for video_id in entries:
        sound = read_sound(tmp_path / "videos" / f"{video_id}.mp4")
        assert sound is not None
        assert sound.duration_seconds == pytest.approx(6.0, abs=0.1)
        assert read_sound(drawn_data / "videos" / f"{video_id}.mp4") is None
