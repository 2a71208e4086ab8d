"""The benchmarks of the runtime run, on next to nothing, and store what they promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from media import write_levels

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_levels(tmp_path_factory.mktemp("media") / "v.mp4", [(20, 1.0), (128, 0.5), (235, 1.5)])


def benchmark(script: str, folder: Path, *arguments: object) -> tuple[dict[str, Any], str]:
    """Run a script; return what it stored, which is also its last line, and all that it printed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments)],
        env=os.environ | {"TSM_BENCHMARK_RESULTS": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name = Path(script).stem
    stored: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    assert json.loads(done.stdout.splitlines()[-1]) == stored
    assert {"processor", "cores", "versions", "commit"} <= set(stored["machine"])
    return stored, done.stdout


def test_throughput_of_one_model_in_every_combination(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    stored, said = benchmark(
        "throughput.py",
        *(tmp_path, video, "--model", tiny_bundle, "--runs", 1, "--batch", 1, 4),
        *("--backend", "onnxruntime", "openvino", "--precision", "fp32", "bf16"),
    )
    rows = {(row["backend"][0].split()[0], row["precision"], row["batch"]): row for row in stored["rows"]}
    assert {("onnxruntime", "fp32", 1), ("onnxruntime", "fp32", 4), ("openvino", "fp32", 4)} <= set(rows)
    assert "onnxruntime, bf16: --precision bf16 is for --backend openvino" in said
    for row in rows.values():
        assert row["intervals"] == 6
        assert set(row["seconds"]) == {"decode", "clips", "model", "whole"}
        whole = row["seconds"]["whole"]
        assert whole["p10"] <= whole["median"] <= whole["p90"]
        assert row["hours_per_hour"] == pytest.approx(3.0 / whole["median"], rel=0.02)
        assert "against_separate" not in row


def test_throughput_of_an_ensemble_over_jobs(video: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    other = write_levels(tmp_path / "w.mp4", [(20, 1.0)])
    models = ("--model", tiny_bundle, "--model", tiny_bundle)
    stored, _ = benchmark("throughput.py", tmp_path, video, other, *models, "--runs", 2, "--jobs", 1, 2)
    assert [row["jobs"] for row in stored["rows"]] == [1, 2]
    for row in stored["rows"]:
        assert row["video_seconds"] == pytest.approx(4.0, abs=0.1)
        seconds = row["seconds"]
        separate = seconds["clips"]["median"] + seconds["model"]["median"]
        low, middle, high = row["against_separate"]
        assert low <= middle <= high
        assert middle == pytest.approx(seconds["whole"]["median"] / separate, rel=0.5)


def test_the_model_alone(tiny_bundle: Path, tmp_path: Path) -> None:
    stored, _ = benchmark(
        "inference.py", tmp_path, "--model", tiny_bundle, "--batch", 1, 3, "--rounds", 2, "--clips", 2
    )
    assert [row["batch"] for row in stored["rows"]] == [1, 3]
    assert stored["rows"][0]["times_as_fast"] == 1
    for row in stored["rows"]:
        assert row["clips_per_second"] == pytest.approx(1e3 / row["ms_per_clip"], rel=0.05)


def test_memory_and_figures(tiny_bundle: Path, tmp_path: Path) -> None:
    """Sixteen times the length takes the same memory, to a tenth."""
    stored, _ = benchmark(
        "memory.py",
        *(tmp_path, "--model", tiny_bundle, "--seconds", 1, 16, "--size", "320x240", "--runs", 1),
    )
    assert [row["seconds"] for row in stored["rows"]] == [1, 16]
    assert stored["growth"] < 1.1
    pytest.importorskip("matplotlib")
    subprocess.run(
        [
            *(sys.executable, str(ROOT / "benchmarks" / "plot.py")),
            *("--results", str(tmp_path), "--output", str(tmp_path / "figures")),
        ],
        capture_output=True,
        check=True,
    )
    assert (tmp_path / "figures" / "memory.svg").read_text().count("<svg") == 1
