"""The rehearsal of the day with a GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
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
    speed = outcomes["speed"]["results"]
    assert speed.keys() == {f"demo {name} batch {batch}" for name in ("fp32", "TF32") for batch in (1, 4)}
    assert all(
        value.keys() == {"serial", "two_in_flight", "two_in_flight_pinned"} and min(value.values()) > 0
        for value in speed.values()
    )
    assert outcomes["end_to_end"]["results"].keys() == {"demo --hwdec none", "demo --hwdec cuda"}
    assert [each["exit"] for each in outcomes["end_to_end"]["results"].values()] == [0, 0]
    largest, mean = outcomes["pixels"]["results"]["demo"]
    assert 0 < mean < 2 < largest
    assert outcomes["memory"]["outcome"] == "nothing to run on"
    assert outcomes["memory"]["reason"] == "NVML does not load"
    assert "| machine | done |" in (tmp_path / "gpu_day_rehearsal.md").read_text()


def test_the_steps_have_the_packages_of_a_folder(tmp_path: Path) -> None:
    """A wheel whose onnxruntime is none shows that steps import what the folder holds."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    (tmp_path / "wheels").mkdir()
    information = "onnxruntime-0.1.dist-info"
    with zipfile.ZipFile(tmp_path / "wheels" / "onnxruntime-0.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("onnxruntime.py", "raise RuntimeError('this is the one of the folder')\n")
        wheel.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: onnxruntime\nVersion: 0.1\n")
        wheel.writestr(
            f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{information}/RECORD", "")
    command = [sys.executable, GPU_DAY, "--rehearse", "--output", tmp_path, "--steps", "pixels"]
    done = subprocess.run([*command, "--wheels", tmp_path / "wheels"], capture_output=True, text=True)
    assert done.returncode == 1
    (step,) = json.loads((tmp_path / "gpu_day_rehearsal.json").read_text())["steps"]
    assert step["outcome"] == "failed"
    assert "this is the one of the folder" in step["reason"]
    (tmp_path / "none").mkdir()
    done = subprocess.run([*command, "--wheels", tmp_path / "none"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "none: holds no wheels" in done.stderr


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
