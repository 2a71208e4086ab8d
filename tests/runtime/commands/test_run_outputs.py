"""Further outputs of `tsm-run`: the summary, columns of CSV, and no file replaced."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from entry import Command, command
from media import write_levels

from tsm_runtime.commands import run as run_cli


@pytest.fixture
def tsm_run(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    return command("tsm-run", run_cli.main, monkeypatch, capfdbinary)


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    return [write_levels(tmp_path / name, [(25, 1), (230, 1)]) for name in ("a.mp4", "b.mp4")]


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_summary_and_columns(tsm_run: Command, videos: list[Path], tiny_bundle: Path, tmp_path: Path) -> None:
    table, summary = tmp_path / "found.csv", tmp_path / "s.csv"
    words = ("-m", tiny_bundle, "-o", table, "--summary", summary)
    done = tsm_run(*videos, *words, "--csv-columns", "duration, model")
    assert done.code == 0, done.err
    rows = rows_of(table)
    assert list(rows[0]) == ["video", "label", "start", "end", "score", "duration", "model"]
    assert {(row["duration"], len(row["model"])) for row in rows} == {("2.0", 64)}
    assert {row["video"] for row in rows_of(summary)} == {"a", "b", "(all videos)"}
    again = tsm_run(*videos, *words, "--no-clobber")
    assert again.code == 2
    assert again.err.startswith(f"tsm-run: --no-clobber: {table} is there (2 files in all); ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "x.json", "--csv-columns", "scene"], "--csv-columns is for CSV, not json: give --format csv"),
        (["-o", "x.csv", "--csv-columns", "szene"], "no column 'szene'; there are scene, duration, model"),
        (["-o", "out/", "--resume", "--no-clobber"], "--no-clobber beside --resume, which adds to a folder"),
        (
            ["-o", "out/", "--resume", "--summary", "s.csv"],
            "--summary would hold the videos of this run",
        ),
    ],
)
def test_options_that_do_not_fit(
    tsm_run: Command, videos: list[Path], tiny_bundle: Path, words: list[str], said: str
) -> None:
    done = tsm_run(*videos, "-m", tiny_bundle, *words)
    assert done.code == 2
    assert said in done.err
