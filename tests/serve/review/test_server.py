"""The server of the review page: who is refused, what bad input gives, and edits without a browser."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from entry import Command, command
from media import counted, write_video
from reviewing import StartServer, spans_of, truth_of

import tsm_runtime
from tsm_serve.commands.review import main
from tsm_serve.review.proxy import make_proxy
from tsm_serve.review.times import BLOCK_SECONDS, FrameTimes, all_times


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "videos"
    (made / "day 1").mkdir(parents=True)
    write_video(made / "day 1" / "clip.mp4", counted(300))
    return made


@pytest.fixture
def review(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    return command("tsm-review", main, monkeypatch, capfdbinary)


def test_only_this_machine_with_the_token_is_answered(start_server: StartServer, folder: Path) -> None:
    server = start_server(folder)
    assert server.call("/api/videos").status == 200
    assert server.call("/api/videos", token="").status == 401
    assert server.call("/api/videos", token="wrong").status == 401
    assert server.call("/", token="").status == 401
    assert server.call("/media", token="", id="day 1/clip").status == 401
    assert (
        server.call("/api/videos", token="", headers={"Authorization": f"Bearer {server.token}"}).status
        == 200
    )
    assert server.call("/api/videos", headers={"Origin": "http://evil.example"}).status == 403
    assert server.call("/api/videos", headers={"Origin": "null"}).status == 403
    assert server.call("/api/videos", headers={"Origin": server.base}).status == 200
    assert server.call("/api/videos", headers={"Host": "evil.example"}).status == 403


def test_an_edit_is_saved_once(start_server: StartServer, folder: Path) -> None:
    server = start_server(folder, "--annotator", "anna")
    edit = {"annotations": [{"label": "run", "segment": [1.0, 2.0]}], "state": "done", "scene": "yard"}
    saved = server.call("/api/video", {"base": "", "edit": edit}, method="PUT", id="day 1/clip")
    assert saved.status == 200
    assert (saved.body["state"], saved.body["by"]) == ("done", "anna")
    assert spans_of(folder, "day 1/clip") == [("run", 1.0, 2.0)]
    assert truth_of(folder, "day 1/clip")["duration"] == pytest.approx(12.0)
    again = server.call("/api/video", {"base": "", "edit": edit}, method="PUT", id="day 1/clip")
    assert again.status == 409
    assert again.body["current"]["annotations"][0]["label"] == "run"
    assert server.stop() in (0, 130)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"base": "", "edit": {"annotations": [{"label": "", "segment": [1, 2]}]}}, 400),
        ({"base": "", "edit": {"annotations": [{"label": "a", "segment": [2, 1]}]}}, 400),
        ({"base": "", "edit": {"annotations": [], "unknown": 1}}, 400),
        ([], 400),
    ],
)
def test_what_is_no_edit_is_refused(
    start_server: StartServer, folder: Path, body: object, status: int
) -> None:
    server = start_server(folder)
    answer = server.call("/api/video", body, method="PUT", id="day 1/clip")
    assert answer.status == status
    assert answer.body["error"]
    assert not (folder / "ground_truth.json").exists()


def test_names_that_are_not_there(start_server: StartServer, folder: Path) -> None:
    server = start_server(folder)
    assert server.call("/api/video", id="nothing").status == 404
    assert server.call("/media", id="../../etc/passwd").status == 404
    assert server.call("/api/times", id="day 1/clip", block="-1").status == 400


def test_drafts_of_another_tool(start_server: StartServer, folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "drafts.csv"
    table.write_text("clip,first,last,what\nday 1/clip.mp4,0,11,run\n")
    columns = "video=clip,start=first,last=last,label=what,unit=frames"
    server = start_server(folder, "--drafts", table, "--columns", columns, "--frame-rate", 24)
    (draft,) = server.call("/api/video", id="day 1/clip").body["drafts"]
    assert (draft["label"], draft["segment"]) == ("run", [0.0, 0.5])


def test_the_models_drafts_arrive(start_server: StartServer, folder: Path, tiny_bundle: Path) -> None:
    server = start_server(folder, "--model", tiny_bundle)
    for _ in range(600):
        shown = server.call("/api/video", id="day 1/clip").body
        if shown["state"] == "draft":
            break
    assert {draft["label"] for draft in shown["drafts"]} <= {"dark", "bright"}
    assert shown["drafts"]
    assert server.call("/api/project").body["labels"] == ["bright", "dark"]
    assert (folder / ".tsm-review" / "drafts" / "day%201%2Fclip.npz").is_file()


def test_a_model_at_work_does_not_disturb_the_end(start_server: StartServer, folder: Path) -> None:
    write_video(folder / "long.mp4", counted(6000))
    server = start_server(folder, "--model", Path(tsm_runtime.__file__).parent / "demo/bundle")
    for _ in range(3000):
        if server.call("/api/drafting").body["current"] == "long":
            break
        time.sleep(0.01)
    assert server.stop() in (0, 130)


def test_another_program_s_broken_file_is_reported_not_overwritten(
    start_server: StartServer, folder: Path
) -> None:
    server = start_server(folder)
    (folder / "ground_truth.json").write_text("{")
    answer = server.call(
        "/api/video", {"base": "", "edit": {"annotations": []}}, method="PUT", id="day 1/clip"
    )
    assert answer.status == 400
    assert "not JSON" in answer.body["error"]
    assert (folder / "ground_truth.json").read_text() == "{"


def test_truth_of_other_videos_stays(start_server: StartServer, folder: Path) -> None:
    other = {"version": 3, "database": {"elsewhere": {"annotations": [], "url": "x"}}}
    (folder / "ground_truth.json").write_text(json.dumps(other))
    server = start_server(folder)
    assert server.call("/api/project").body["strangers"] == ["elsewhere"]
    server.call("/api/video", {"base": "", "edit": {"annotations": []}}, method="PUT", id="day 1/clip")
    document = json.loads((folder / "ground_truth.json").read_text())
    assert document["version"] == 3
    assert document["database"]["elsewhere"] == {"annotations": [], "url": "x"}


def test_bad_input_is_one_line(review: Command, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = review(tmp_path / "empty", "--no-browser")
    assert (outcome.code, outcome.out) == (2, "")
    assert "no video in this folder" in outcome.err
    assert "no such folder" in review(tmp_path / "nowhere", "--no-browser").err
    assert "no folder" in review(folder, "--truth", tmp_path / "a" / "b.json", "--no-browser").err
    (tmp_path / "truth.json").write_text("[1]")
    assert "expected ActivityNet" in review(folder, "--truth", tmp_path / "truth.json", "--no-browser").err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        outcome = review(folder, "--port", taken.getsockname()[1], "--no-browser")
    assert outcome.code == 2
    assert "choose another --port" in outcome.err


def test_blocks_of_times_are_those_of_the_whole(folder: Path) -> None:
    path = folder / "day 1" / "clip.mp4"
    whole = all_times(path)
    times = FrameTimes()
    assert BLOCK_SECONDS == 10
    assert [*times.block(path, 0), *times.block(path, 1)] == pytest.approx(whole)
    assert times.block(path, 5) == ()


def test_a_copy_keeps_the_times(tmp_path: Path) -> None:
    pts = [0, 40, 100, 133, 500, 640, 1000]
    video = write_video(tmp_path / "v.mkv", counted(len(pts)), pts=pts, codec="ffv1", options={})
    make_proxy(video, tmp_path / "cache" / "copy.mp4")
    assert all_times(tmp_path / "cache" / "copy.mp4") == pytest.approx([t / 1000 for t in pts], abs=1e-4)


def test_the_command_is_lean(folder: Path) -> None:
    program = (
        "import sys; from tsm_serve.commands import review; import tsm_serve.review.session;"
        "print(*{'torch', 'tsm_train', 'onnxruntime'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ)
    assert (done.stdout.strip(), done.returncode) == ("", 0)
