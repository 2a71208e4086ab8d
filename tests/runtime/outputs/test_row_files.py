"""Tables of many videos: each is readable while it grows, and has a row for every video."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet
import pytest
from entry import Command
from media import write_levels

from tsm_runtime.formats.read_write import read_segments

DARK, GREY, BRIGHT = 40, 128, 230


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("set").mkdir()
    write_levels(Path("set/a.mp4"), [(DARK, 1.5), (GREY, 0.54)])
    write_levels(Path("set/b.mp4"), [(GREY, 2.04)])
    Path("set/broken.mp4").write_text("no video")
    return Path("set")


def test_parquet_has_a_row_for_every_video(run: Command, archive: Path, tiny_bundle: Path) -> None:
    assert run(archive, "-m", tiny_bundle, "-o", "all.parquet").code == 1
    rows = pyarrow.parquet.read_table("all.parquet").to_pylist()
    assert [(r["video"], r["status"], r["label"], r["start"], r["end"]) for r in rows] == [
        ("a", "done", "dark", 0.0, 1.5),
        ("b", "done", None, None, None),
        ("broken", "failed", None, None, None),
    ]
    assert len(rows[0]["bundle"]) == 64
    assert rows[0]["scene"]
    assert "not a readable video" in rows[2]["error"]
    run(archive, "-m", tiny_bundle, "-o", "all.json")
    assert read_segments(Path("all.parquet")) == read_segments(Path("all.json"))


def test_duckdb_reads_the_folder_and_the_table(run: Command, archive: Path, tiny_bundle: Path) -> None:
    run(archive, "-m", tiny_bundle, "-o", "all.parquet")
    run(archive, "-m", tiny_bundle, "-o", "out/", "--format", "parquet")
    for source in ("all.parquet", "out/**/*.parquet"):
        query = f"""SELECT label, count(*), sum("end" - start) FROM '{source}'
            WHERE label IS NOT NULL GROUP BY label"""
        assert duckdb.sql(query).fetchall() == [("dark", 1, 1.5)]


def test_a_csv_of_many_has_a_second_table_with_every_video(
    run: Command, archive: Path, tiny_bundle: Path
) -> None:
    assert run(archive, "-m", tiny_bundle, "-o", "all.csv").code == 1
    assert Path("all.csv").read_text().splitlines()[0] == "video,label,start,end,score"
    rows = [line.split(",") for line in Path("all.videos.csv").read_text().splitlines()]
    assert rows[0] == ["video", "status", "segments", "scene", "scene_score", "duration", "bundle", "error"]
    assert [row[:3] for row in rows[1:]] == [["a", "done", "1"], ["b", "done", "0"], ["broken", "failed", ""]]
    assert run(archive / "a.mp4", "-m", tiny_bundle, "-o", "one.csv").code == 0
    assert not Path("one.videos.csv").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "parquet"])
def test_what_is_there_survives_the_end_of_the_run(
    tmp_path: Path, tiny_bundle: Path, number: signal.Signals, suffix: str
) -> None:
    if number == signal.SIGKILL and suffix in ("json", "parquet"):
        pytest.skip("these have an end without which they cannot be read: they appear when the run ends")
    (tmp_path / "set").mkdir()
    write_levels(tmp_path / "set" / "a.mp4", [(DARK, 1.5), (GREY, 0.54)])
    write_levels(tmp_path / "set" / "b.mp4", [(DARK, 1.5)])
    output = tmp_path / f"all.{suffix}"
    program = (
        "import signal, time; from tsm_runtime.commands import run, write_outcomes\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in a shell's background
        "from tsm_runtime.video.reader import VideoReader\n"
        "keep, opens = write_outcomes._keep, VideoReader.__init__\n"
        "def kept(*a):\n"
        "    found = keep(*a); print('kept', flush=True); return found\n"
        "def opens_late(self, path, *a, **k):\n"
        "    while path.name == 'b.mp4' and not path.with_name('go').exists(): time.sleep(0.05)\n"
        "    opens(self, path, *a, **k)\n"
        "write_outcomes._keep, VideoReader.__init__ = kept, opens_late; run.main()"
    )
    arguments = [
        tmp_path / "set" / "a.mp4",
        tmp_path / "set" / "b.mp4",
        "-m",
        tiny_bundle,
        "-o",
        output,
        "-q",
    ]
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"kept\n"
        child.send_signal(number)
        (tmp_path / "set" / "go").touch()
        assert child.wait(timeout=60) == (-9 if number == signal.SIGKILL else 130)
    assert list(read_segments(output)) == ["a"]
