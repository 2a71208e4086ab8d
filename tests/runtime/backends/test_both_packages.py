"""onnxruntime and onnxruntime-gpu in one environment, as pip installs them."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle

import tsm_runtime

_VERSION = "1.23.2"
"""Of both; any two collide, as they share a folder."""


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_the_collision_is_reported_with_its_repair(tmp_path: Path) -> None:
    """Downloads some 300 MB."""
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    (own,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (own / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")  # comes after its own packages
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-installed"]
    subprocess.run([*pip, f"onnxruntime-gpu=={_VERSION}"], check=True)
    subprocess.run([*pip, f"onnxruntime=={_VERSION}"], check=True)
    bundle = write_tiny_bundle(tmp_path / "bundle")
    video = Path(tsm_runtime.__file__).parent / "demo" / "video.mp4"
    program = "import sys; from tsm_runtime.commands.run import main; main()"
    words = [python, "-c", program, "-m", bundle, "--backend", "onnxruntime-cuda", video]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "Traceback" not in done.stderr
    command = re.search(r"pip install --force-reinstall --no-deps onnxruntime-gpu==\S+", done.stderr)
    assert command is not None, done.stderr
    subprocess.run([python, "-m", *command[0].split()], check=True)
    check = "import onnxruntime as ort; print(ort.get_available_providers())"
    found = subprocess.run([python, "-c", check], capture_output=True, text=True, check=True).stdout
    assert "CUDAExecutionProvider" in found
