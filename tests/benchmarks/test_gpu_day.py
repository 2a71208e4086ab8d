"""The rehearsal of the day with a GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GPU_DAY = Path(__file__).parents[2] / "benchmarks" / "gpu_day.py"


@pytest.mark.timeout(600)
def test_rehearsal(tmp_path: Path) -> None:
    """Every step gives what it gives on a GPU, or says what it would need."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    steps = ["machine", "nvdec", "pixels", "speed", "memory", "end_to_end"]
    command = [sys.executable, GPU_DAY, "--rehearse", "--output", tmp_path, "--steps", *steps]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu_day_rehearsal.json").read_text())
    outcomes = {step["step"]: step for step in found["steps"]}
    assert list(outcomes) == steps
    assert outcomes["machine"]["results"]["gpu"] == "Emulated GPU 0"
    assert outcomes["nvdec"]["results"]["held_frames"] == 100
    assert outcomes["nvdec"]["results"]["libx264"].keys() == {"fps_1", "fps_2"}
    assert any(value["two_in_flight"] > 0 for value in outcomes["speed"]["results"].values())
    assert outcomes["end_to_end"]["results"].keys() == {"demo --hwdec none", "demo --hwdec cuda"}
    assert [each["exit"] for each in outcomes["end_to_end"]["results"].values()] == [0, 0]
    largest, mean = outcomes["pixels"]["results"]["demo"]
    assert 0 < mean < 2 < largest
    assert outcomes["memory"]["outcome"] == "nothing to run on"
    assert outcomes["memory"]["reason"] == "NVML does not load"
    assert "| machine | done |" in (tmp_path / "gpu_day_rehearsal.md").read_text()


def test_without_a_driver(tmp_path: Path) -> None:
    """One line with the remedy, exit code 5, and what is known so far is kept."""
    environment = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
    command = [sys.executable, GPU_DAY, "--output", tmp_path, "--steps", "machine", "nvdec"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 5 and "machine: done" in done.stdout:
        pytest.skip("there is a GPU")
    assert done.returncode == 5
    assert "no GPU: the NVIDIA driver is not installed" in done.stdout
    assert len(json.loads((tmp_path / "gpu_day.json").read_text())["steps"]) == 1
