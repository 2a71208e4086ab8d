"""`tsm-run` on archives: resume, shards, failures, locks, and runs that are killed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from entry import Command
from media import write_levels

from tsm_runtime.archive.shard import Shard
from tsm_runtime.errors import RunError, UsageError
from tsm_runtime.outputs import sinks

HERE = Path(__file__).parent
DARK, GREY, BRIGHT = 40, 128, 230


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with cam1/a, cam1/b, cam2/c, and cam2/broken."""
    monkeypatch.chdir(tmp_path)
    for name, level in (("cam1/a", DARK), ("cam1/b", BRIGHT), ("cam2/c", DARK)):
        path = Path("set") / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_levels(path, [(level, 1.5), (GREY, 0.54)])
    Path("set/cam2/broken.mp4").write_text("no video")
    return Path("set")


def lines(path: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def results() -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in Path("out").rglob("*.json") if p.parts[1][0] not in ".s"}


def test_a_run_keeps_books_and_its_second_run_does_nothing(
    run: Command, archive: Path, tiny_bundle: Path
) -> None:
    first = run(archive, "-m", tiny_bundle, "-o", "out/")
    assert first.code == 1
    assert "3 of 4 videos done, 1 failed" in first.err
    before = results()
    assert sorted(before) == ["out/a.json", "out/b.json", "out/c.json"]
    (failure,) = lines("out/failures.jsonl")
    assert failure["video"] == "broken"
    assert "not a readable video" in str(failure["reason"])
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["videos"], summary["done"], summary["skipped"], summary["failed"]) == (4, 3, 0, 1)
    assert summary["video_hours"] == pytest.approx(3 * 2.04 / 3600, abs=1e-4)
    times = {path: Path(path).stat().st_mtime_ns for path in before}
    second = run(archive, "-m", tiny_bundle, "-o", "out/", "--resume")
    assert second.code == 1
    assert "0 of 4 videos done, 3 done before, 1 failed" in second.err
    assert {path: Path(path).stat().st_mtime_ns for path in before} == times
    assert lines("out/failures.jsonl") == [failure]


def test_what_changed_is_run_again_and_said(run: Command, archive: Path, tiny_bundle: Path) -> None:
    run(archive, "-m", tiny_bundle, "-o", "out/")
    write_levels(archive / "cam1/a.mp4", [(BRIGHT, 2.04)])
    changed = run(archive, "-m", tiny_bundle, "-o", "out/", "--resume")
    assert "1 video (a) changed since the last run: run again" in changed.err
    assert "1 of 4 videos done, 2 done before, 1 failed" in changed.err
    assert json.loads(results()["out/a.json"])["results"]["a"][0]["label"] == "bright"
    other = run(archive, "-m", tiny_bundle, "-o", "out/", "--resume", "--min-score", "0.2")
    assert "min_score 0.0, now 0.2): run again" in other.err
    assert "3 of 4 videos done, 1 failed" in other.err
    back = run(archive, "-m", tiny_bundle, "-o", "out/", "--resume")
    assert "3 of 4 videos done, 1 failed" in back.err  # what is there is of the other settings
    Path("out/c.json").unlink()
    assert (
        "1 of 4 videos done, 2 done before" in run(archive, "-m", tiny_bundle, "-o", "out/", "--resume").err
    )


def test_checksums_see_through_times_and_sizes(run: Command, archive: Path, tiny_bundle: Path) -> None:
    options = (archive, "-m", tiny_bundle, "-o", "out/", "--resume", "--checksum")
    run(*options)
    for path in archive.rglob("*.mp4"):
        os.utime(path, (1, 1))
    assert "0 of 4 videos done, 3 done before, 1 failed" in run(*options).err
    assert "3 of 4 videos done" in run(*options[:-1]).err  # by time they are others
    status = (archive / "cam1/a.mp4").stat()
    data = bytearray((archive / "cam1/a.mp4").read_bytes())
    data[-1] ^= 1
    (archive / "cam1/a.mp4").write_bytes(data)
    os.utime(archive / "cam1/a.mp4", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "1 of 4 videos done, 2 done before" in run(*options).err


def test_failed_ones_are_tried_again_on_request_alone(run: Command, archive: Path, tiny_bundle: Path) -> None:
    run(archive, "-m", tiny_bundle, "-o", "out/")
    again = run(archive, "-m", tiny_bundle, "-o", "out/", "--resume")
    assert again.code == 1
    assert "broken.mp4: not a readable video" not in again.err  # not tried
    retried = run(archive, "-m", tiny_bundle, "-o", "out/", "--retry-failed")
    assert "broken.mp4: not a readable video" in retried.err
    shutil.copy(archive / "cam1/a.mp4", archive / "cam2/broken.mp4")
    repaired = run(archive, "-m", tiny_bundle, "-o", "out/", "--resume")
    assert repaired.code == 0
    assert lines("out/failures.jsonl") == []


def test_shards_are_fixed_shares_that_share_a_folder(run: Command, archive: Path, tiny_bundle: Path) -> None:
    (archive / "cam2/broken.mp4").unlink()
    run(archive, "-m", tiny_bundle, "-o", "whole/")
    for number in (1, 2, 3):
        assert run(archive, "-m", tiny_bundle, "-o", "out/", "--shard", f"{number}/3").code == 0
    whole = {
        str(p.relative_to("whole")): p.read_bytes()
        for p in Path("whole").glob("*.json")
        if p.name != "summary.json"
    }
    assert {str(Path(name).relative_to("out")): data for name, data in results().items()} == whole
    summaries = [json.loads(p.read_text())["done"] for p in sorted(Path("out").glob("summary-*.json"))]
    assert sum(summaries) == 3
    resumed = run(archive, "-m", tiny_bundle, "-o", "out/", "--resume")
    assert "0 of 3 videos done, 3 done before" in resumed.err


def test_each_id_belongs_to_one_shard() -> None:
    ids = [f"cam{n % 7}/{n:05d}" for n in range(2000)]
    shares = [[i for i in ids if Shard(number, 16).holds(i)] for number in range(1, 17)]
    assert sorted(i for share in shares for i in share) == sorted(ids)
    assert all(80 < len(share) < 180 for share in shares)
    for text in ("0/3", "4/3", "3", "1/0", "-1/3", "a/b", "1/3/4"):
        with pytest.raises(UsageError):
            Shard.parse(text)


def test_two_runs_do_not_share_a_folder_unless_by_shards(
    run: Command, archive: Path, tiny_bundle: Path
) -> None:
    options = (archive, "-m", tiny_bundle, "-o", "out/")
    run(*options)
    with Path("out/.tsm-run/lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        refused = run(*options, "--resume")
        assert refused.code == 2
        assert "out: another tsm-run writes to this folder; wait for its end" in refused.err
        fcntl.flock(other, fcntl.LOCK_SH)  # as a run of another shard
        assert run(*options, "--shard", "1/2").code in (0, 1)
        assert run(*options).code == 2


def test_equal_stems_get_their_paths_as_ids(
    run: Command, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cam1/x", "cam2/x", "cam2/y"):
        path = Path("set") / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_levels(path, [(DARK, 1.04)])
    shutil.copy("set/cam1/x.mp4", "set/cam1/x.mkv")
    assert run("set", "-m", tiny_bundle, "-o", "out/").code == 0
    assert sorted(results()) == [
        f"out/{name}.json" for name in ("cam1/x.mkv", "cam1/x.mp4", "cam2/x", "cam2/y")
    ]
    refused = run("set", "-m", tiny_bundle, "-o", "out2/", "--ids", "stem")
    assert refused.code == 2
    assert "would both be 'x' in the output; name them by --ids path" in refused.err
    assert run("set/cam2", "-m", tiny_bundle, "-o", "out3/", "--ids", "path").code == 0
    assert Path("out3/x.json").exists()


def test_a_list_names_videos_and_missing_ones_are_failures(
    run: Command, archive: Path, tiny_bundle: Path
) -> None:
    Path("list.txt").write_text("# some\nset/cam1/a.mp4\n\nset/cam1/gone.mp4\n")
    done = run("@list.txt", "-m", tiny_bundle, "-o", "out/")
    assert done.code == 1
    assert sorted(results()) == ["out/a.json"]
    assert [line["video"] for line in lines("out/failures.jsonl")] == ["gone"]
    Path("empty.txt").write_text("\n#\n")
    assert "empty.txt: names no video" in run("@empty.txt", "-m", tiny_bundle, "-o", "out/").err
    assert "missing.txt: cannot be read" in run("@missing.txt", "-m", tiny_bundle, "-o", "out/").err


def test_a_full_disk_costs_the_videos_that_found_no_room(
    run: Command, archive: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = sinks.write_whole

    def full(path: Path, data: bytes | str) -> None:
        if path.name == "b.json":
            raise RunError(f"cannot write {path}: No space left on device")
        write(path, data)

    monkeypatch.setattr(sinks, "write_whole", full)
    done = run(archive, "-m", tiny_bundle, "-o", "out/")
    assert done.code == 1
    assert sorted(results()) == ["out/a.json", "out/c.json"]
    assert {line["video"] for line in lines("out/failures.jsonl")} == {"b", "broken"}
    monkeypatch.undo()
    os.chdir(archive.resolve().parent if archive.is_absolute() else Path.cwd())


def test_a_file_that_changes_while_it_is_read_gives_no_result(
    run: Command, archive: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tsm_runtime.archive import ledger

    keep = ledger.Ledger.keep

    def touched(self: ledger.Ledger, outcome: object, sink: object) -> object:
        os.utime(archive / "cam1/a.mp4")
        return keep(self, outcome, sink)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger.Ledger, "keep", touched)
    done = run(archive, "-m", tiny_bundle, "-o", "out/")
    assert "set/cam1/a.mp4: the file changed while the run was going on" in done.err
    assert sorted(results()) == ["out/b.json", "out/c.json"]


def test_outputs_that_cannot_be_written_are_noticed_first(
    run: Command, archive: Path, tiny_bundle: Path
) -> None:
    Path("file").write_text("")
    for output in ("file/out/", "/proc/out/", "/proc/out.csv", "/proc/out.json"):
        refused = run(archive, "-m", tiny_bundle, "-o", output)
        assert refused.code in (2, 7), output
        assert "broken" not in refused.err


@pytest.mark.parametrize("flag", ["--resume", "--retry-failed", "--checksum"])
def test_resuming_needs_a_folder(run: Command, archive: Path, tiny_bundle: Path, flag: str) -> None:
    refused = run(archive, "-m", tiny_bundle, "-o", "all.csv", flag)
    assert refused.code == 2
    assert f"{flag} is for a folder with a file for each video" in refused.err


def test_runs_that_are_killed_50_times_equal_an_undisturbed_one(tiny_bundle: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(8):
        write_levels(videos / f"{number}.mp4", [(DARK + 20 * number, 1.0), (GREY, 0.54)])
    done = subprocess.run(
        [
            sys.executable,
            str(HERE / "kill_often.py"),
            str(tiny_bundle),
            str(videos),
            str(tmp_path),
            "50",
            "3",
        ],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    killed, rounds = (int(word) for word in done.stdout.split() if word.isdigit())
    assert killed >= 50
    assert rounds >= 1
