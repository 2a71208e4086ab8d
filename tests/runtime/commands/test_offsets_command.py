"""`tsm-offsets` through its entry point."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from entry import Command, command
from sounds import RATE, scene, write_sound

from tsm_runtime.captures.layout import find_captures
from tsm_runtime.captures.offsets import read_offsets
from tsm_runtime.commands.offsets import main
from tsm_runtime.commands.run_captures import _with_found_offsets


@pytest.fixture
def tsm_offsets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Command:
    """The command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return command("tsm-offsets", main, monkeypatch, capfdbinary)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Two views of a scene, the second from 2.5 s on, and a clip of another scene."""
    heard, other = scene(15.0, seed=1), scene(9.0, seed=2)
    for name, samples in {
        "panoramic/c.mp4": heard[: 12 * RATE],
        "third_person/c.mp4": heard[round(2.5 * RATE) :],
        "binocular/c/clip1.mp4": other,
    }.items():
        path = tmp_path / "cap" / name
        path.parent.mkdir(parents=True)
        write_sound(path, samples)
    return tmp_path / "cap"


def test_offsets_as_json_table_and_csv(tsm_offsets: Command, capture: Path) -> None:
    done = tsm_offsets("cap", "--json", "-o", "offsets.csv")
    assert (done.code, done.err) == (0, "")
    entries = {entry["video"]: entry for entry in json.loads(done.out)["offsets"]}
    assert list(entries) == ["panoramic/c.mp4", "third_person/c.mp4", "binocular/c/clip1.mp4"]
    assert entries["panoramic/c.mp4"]["offset_seconds"] == 0.0
    assert entries["third_person/c.mp4"]["offset_seconds"] == pytest.approx(2.5, abs=0.02)
    assert entries["third_person/c.mp4"]["confidence"] > 0.9
    assert entries["binocular/c/clip1.mp4"]["offset_seconds"] is None
    assert entries["binocular/c/clip1.mp4"]["confidence"] < 0.5
    assert read_offsets(Path("offsets.csv"))["third_person/c"] == pytest.approx(2.5, abs=0.02)


def test_wrong_use_and_what_cannot_be_read(tsm_offsets: Command, capture: Path) -> None:
    assert tsm_offsets("nothing").code == 2
    assert "there is no folder" in tsm_offsets("cap", "-o", "no/where.csv").err
    (capture / "third_person/c.mp4").write_bytes(b"no video")
    done = tsm_offsets("cap")
    assert done.code == 1
    assert "not found: neither sound nor pictures" in done.out
    assert "third_person/c.mp4: not a readable video or sound" in done.err


def test_offsets_auto(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = find_captures([capture])
    offsets = _with_found_offsets(found).offsets
    assert offsets["third_person/c"] == pytest.approx(2.5, abs=0.02)
    assert "binocular/c/clip1" not in offsets
    assert "binocular/c/clip1.mp4: not found" in capsys.readouterr().err
