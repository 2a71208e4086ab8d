"""The README's commands run, and print what it says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "COLUMNS": "120",
    }
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=3000, check=False
    )


def console_blocks() -> list[list[str]]:
    """Lines of each ```console block."""
    return [block.strip().splitlines() for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)]


def test_demo_prints_what_the_readme_shows(tmp_path: Path) -> None:
    block = next(block for block in console_blocks() if block[0] == "$ make demo")
    done = run(["tsm-run", "--demo"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    shown, printed = "\n".join(block[1:]), done.stdout.strip()
    assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", shown).split()
    # Another processor rounds scores differently; times and counts do not depend on that.
    numbers = [[float(n) for n in NUMBER.findall(text)] for text in (printed, shown)]
    assert numbers[0] == pytest.approx(numbers[1], abs=0.02)


@pytest.mark.timeout(3600)
def test_train_export_run_on_drawn_data(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    block = next(block for block in console_blocks() if any("tsm_train.synthetic" in line for line in block))
    shutil.copytree(ROOT / "benchmarks" / "configs", tmp_path / "benchmarks" / "configs")
    for line in block:
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words[0] == "pip":
            continue
        if words[0] == "python":
            words[0] = sys.executable
        done = run(words, tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert float(re.search(r"all classes \(mAP\) +([\d.]+)", done.stdout)[1]) > 50
    assert (tmp_path / "bundle" / "model.fp32.onnx").exists()
