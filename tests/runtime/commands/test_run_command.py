"""`tsm-run` through its entry point: exit code, standard output, standard error and files."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entry import PEAK_KILOBYTES, Command, Outcome, command
from media import counted, cut, plain, write_levels, write_video

from tsm_runtime import __version__
from tsm_runtime.commands.run import main
from tsm_runtime.formats.read_write import read_segments

DARK, GREY, BRIGHT = 20, 128, 235
SCENE = [(DARK, 1.0), (GREY, 0.5), (BRIGHT, 1.5)]
MAIN = "from tsm_runtime.commands.run import main; main()"


@pytest.fixture
def tsm_run(
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> Command:
    """The command with the tiny model, in an empty folder."""
    monkeypatch.setenv("TSM_MODEL", str(tiny_bundle))
    monkeypatch.chdir(tmp_path)
    return command("tsm-run", main, monkeypatch, capfdbinary)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_levels(tmp_path_factory.mktemp("media") / "scene.mp4", SCENE)


@pytest.fixture
def video(scene: Path, tmp_path: Path) -> Path:
    """scene.mp4 in the current folder, by its short name."""
    (tmp_path / "scene.mp4").write_bytes(scene.read_bytes())
    return Path("scene.mp4")


def found(text: str) -> dict[str, list[tuple[str, float, float]]]:
    results = json.loads(text)["results"]
    return {name: [(d["label"], *d["segment"]) for d in entries] for name, entries in results.items()}


FOUND = [("dark", 0.0, 1.0), ("bright", 1.5, 3.0)]


# --- output ---------------------------------------------------------------------------------------


def test_without_a_terminal_json_goes_to_stdout(tsm_run: Command, video: Path, tiny_bundle: Path) -> None:
    code, out, err = tsm_run(video)
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert found(out) == {"scene": FOUND}
    assert [entry["label"] for entry in document["scenes"]["scene"]] == ["day", "night"]
    reported = document["external_data"]
    assert reported["model"]["backbone"] == "brightness"
    assert re.fullmatch(r"onnxruntime \S+ CPU, fp32", reported["model"]["backend"])
    assert reported["options"] == {"start": 0.0, "end": None, "min_score": 0.0}
    assert reported["versions"].keys() == {"tsm-tal", "av", "numpy"}
    assert reported["videos"]["scene"] == {
        "duration": 3.0, "intervals": 6, "complete": True, "gaps": [], "corrupt_frames": 0
    }  # fmt: skip


def test_an_output_file_by_its_suffix(tsm_run: Command, video: Path) -> None:
    for name, output_format in (("a.json", None), ("b.csv", None), ("c.txt", "csv"), ("d.csv", "json")):
        flags = () if output_format is None else ("--format", output_format)
        assert tsm_run(video, "--output", name, *flags) == (0, "", "")
    assert read_segments(Path("a.json")) == read_segments(Path("b.csv"))
    assert Path("c.txt").read_bytes() == Path("b.csv").read_bytes()
    assert Path("d.csv").read_bytes() == Path("a.json").read_bytes()
    assert tsm_run(video, "-o", "-", "--format", "csv").out == Path("b.csv").read_text()
    assert tsm_run(video, "-o", "-").out == Path("a.json").read_text()


def test_every_format_by_its_name_or_suffix(tsm_run: Command, video: Path) -> None:
    Path("ids.json").write_text('{"dark": 1, "bright": 2}')
    assert tsm_run(video, "-o", "scene.json") == (0, "", "")
    expected = [(s.label, s.start_seconds, s.end_seconds) for s in read_segments(Path("scene.json"))["scene"]]
    for name, *flags in (
        ("a/scene.jsonl",),
        ("a/scene.vtt",),
        ("a/scene.srt",),
        ("a/scene.eaf",),
        ("a/scene.txt",),
        ("via/scene.json", "--format", "via"),
        ("kaggle/scene.csv", "--format", "kaggle", "--label-map", "ids.json"),
    ):
        Path(name).parent.mkdir(exist_ok=True)
        assert tsm_run(video, "-o", name, *flags, "-q").code == 0, name
        found_there = read_segments(Path(name), label_ids={"dark": 1, "bright": 2})
        assert list(found_there) == ["scene"], name
        assert [(s.label, s.start_seconds, s.end_seconds) for s in found_there["scene"]] == expected, name
    assert b"scene.mp4" in Path("a/scene.eaf").read_bytes()
    assert json.loads(Path("via/scene.json").read_text())["file"]["1"]["fname"] == "scene.mp4"
    assert tsm_run(video, "--format", "srt").out == Path("a/scene.srt").read_text()


def test_a_format_for_one_video_wants_a_folder_for_two(tsm_run: Command, video: Path) -> None:
    Path("b.mp4").write_bytes(video.read_bytes())
    assert tsm_run(video, "b.mp4", "-o", "out.srt") == (
        2,
        "",
        "tsm-run: a file of format srt holds one video, but 2 were given;"
        " choose a folder: --output FOLDER/\n",
    )
    assert tsm_run(video, "b.mp4", "--format", "vtt").code == 2
    assert tsm_run(video, "b.mp4", "-o", "out/", "--format", "srt").code == 0
    assert names(Path("out")) == ["b.srt", "scene.srt"]


def test_kaggle_wants_a_class_id_for_each_label(tsm_run: Command, video: Path) -> None:
    code, out, err = tsm_run(video, "--format", "kaggle", "-o", "out.csv")
    assert (code, out) == (2, "")
    assert err.startswith("tsm-run: no class id for 'dark', 'bright'; give --label-map FILE")
    assert not Path("out.csv").exists()
    Path("ids.json").write_text('{"dark": 7, "bright": null}')
    code, out, _ = tsm_run(video, "--format", "kaggle", "--label-map", "ids.json")
    assert (code, out.split("[[7, 0.0, 1.0, ")[0]) == (0, 'id,prediction\nscene_0_10,"')
    assert tsm_run(video, "--label-map", "ids.json").code == 2


def test_an_overlay_beside_the_results(tsm_run: Command, video: Path) -> None:
    pytest.importorskip("PIL")
    code, out, err = tsm_run(video, "--overlay", "seen.mp4")
    assert (code, found(out), err) == (0, {"scene": FOUND}, "")
    import av

    with av.open("seen.mp4") as container:
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx(
            [n / 25 for n in range(75)]
        )
    Path("b.mp4").write_bytes(video.read_bytes())
    for arguments, words in (
        ((video, "b.mp4", "--overlay", "o.mp4"), "--overlay o.mp4: one file for 2 videos; give a folder"),
        ((video, "--overlay", "o.gif"), "ends in .mp4"),
        ((video, "--overlay", "./scene.mp4"), "would replace the video"),
    ):
        code, out, err = tsm_run(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert words in err


def test_clips_and_files_for_editors(tsm_run: Command, video: Path) -> None:
    code, out, err = tsm_run(video, "--clips", "clips", "--clips-exact", "-o", "found.edl")
    assert (code, out, err) == (0, "", "")
    assert sorted(path.name for path in Path("clips").iterdir()) == [
        "clips.csv",
        "scene_001_dark.mp4",
        "scene_002_bright.mp4",
    ]
    assert "C        00:00:01:13 00:00:03:00 00:00:01:00 00:00:02:12" in Path("found.edl").read_text()
    for arguments, words in (
        ((video, "--clips-exact"), "go with --clips FOLDER"),
        ((video, "--clips", "."), "the videos lie there"),
        ((video, "--clips", video), "is a file; give a folder"),
    ):
        code, out, err = tsm_run(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert words in err


def test_an_overlay_without_pillow_names_the_extra(
    tsm_run: Command, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert tsm_run(video, "--overlay", "seen.mp4") == (
        5, "", "tsm-run: drawing needs Pillow: pip install 'tsm-tal[report]'\n"
    )  # fmt: skip


def page_data(path: str) -> dict[str, Any]:
    """What a report's script reads."""
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', Path(path).read_text(), re.S
    )
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_a_report_beside_the_results(tsm_run: Command, video: Path) -> None:
    database = {"scene": {"annotations": [{"label": "dark", "segment": [0.25, 1.0]}]}}
    Path("truth.json").write_text(json.dumps({"database": database}))
    code, out, err = tsm_run(video, "--report", "page.html", "--truth", "truth.json")
    assert (code, found(out), err) == (0, {"scene": FOUND}, "")
    data = page_data("page.html")
    (shown,) = data["videos"]
    segments = [(data["labels"][label], s, e) for label, s, e, *_ in shown["members"][0]["segments"]]
    assert segments == FOUND
    assert shown["media"]["src"] == "scene.mp4"
    assert [entry[1:3] for entry in shown["truth"]["segments"]] == [[0.25, 1.0]]
    assert shown["strip"] is not None
    assert tsm_run(video, "--report", "page.html", "--embed").code == 0
    assert page_data("page.html")["videos"][0]["media"]["src"].startswith("data:video/mp4;base64,")


def test_wrong_usage_of_the_report(tsm_run: Command, video: Path) -> None:
    Path("other.json").write_text('{"database": {"somewhere": {"annotations": []}}}')
    for arguments, words in (
        (("--embed",), "--embed is for --report"),
        (("--truth", "other.json"), "--truth is for --report"),
        (("--report", "page.txt"), "ends in .html"),
        (("--report", "nowhere/page.html"), "there is no folder nowhere"),
        (("--report", "p.html", "-o", "p.html", "--format", "json"), "would replace"),
        (("--report", "p.html", "--truth", "other.json"), "annotates none of the videos; their ids: scene"),
    ):
        code, out, err = tsm_run(video, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert words in err
    assert not Path("p.html").exists()


def test_the_batch_size_changes_nothing(tsm_run: Command, video: Path) -> None:
    def segments(batch: int) -> list[Any]:
        assert tsm_run(video, "--batch", batch, "--threads", 1, "-o", f"{batch}.json").code == 0
        return read_segments(Path(f"{batch}.json"))["scene"]

    assert segments(3) == segments(8) == segments(1)


def test_a_folder_gets_a_file_per_video(tsm_run: Command, video: Path) -> None:
    clip = Path("binocular/12ab/clip1.mp4")
    clip.parent.mkdir(parents=True)
    clip.write_bytes(video.read_bytes())
    assert tsm_run(video, "binocular", "-q", "-o", "out/") == (0, "", "")
    assert {"12ab/clip1.json", "scene.json"} <= {*names(Path("out"))}
    assert found(Path("out/12ab/clip1.json").read_text()) == {"12ab/clip1": FOUND}
    assert tsm_run(video, "-o", "out", "--format", "csv").code == 0
    assert {"12ab/clip1.json", "scene.csv", "scene.json"} <= {*names(Path("out"))}


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_options_reach_the_run(tsm_run: Command, video: Path) -> None:
    assert found(tsm_run(video, "--start", 0.5, "--end", 2.0).out) == {
        "scene": [("dark", 0.5, 1.0), ("bright", 1.5, 2.0)]
    }
    assert found(tsm_run(video, "--min-score", 1).out) == {"scene": []}
    assert found(tsm_run(video, "--id", "another/name").out) == {"another/name": FOUND}


# --- which videos ---------------------------------------------------------------------------------


def test_folders_are_searched_in_order_and_hidden_files_left_out(tsm_run: Command, video: Path) -> None:
    for name in ("set/b/2.MP4", "set/b/1.mkv", "set/a.mp4", "set/._a.mp4", "set/note.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(video.read_bytes())
    code, out, err = tsm_run("set", "set/a.mp4")
    assert (code, err) == (0, "")
    assert list(found(out)) == ["a", "1", "2"]


def test_two_videos_of_one_name_are_named_by_their_paths(tsm_run: Command, video: Path) -> None:
    Path("x").mkdir()
    Path("x/scene.mkv").write_bytes(video.read_bytes())
    assert found(tsm_run(video, "x").out) == {"scene": FOUND, "x/scene": FOUND}
    code, out, err = tsm_run(video, "x", "-o", "out.json", "--ids", "stem")
    assert (code, out) == (2, "")
    assert err == (
        "tsm-run: scene.mp4 and x/scene.mkv would both be 'scene' in the output; name them by --ids path\n"
    )
    assert not Path("out.json").exists()


def test_an_id_is_for_one_video(tsm_run: Command, video: Path) -> None:
    Path("b.mp4").write_bytes(video.read_bytes())
    assert tsm_run(video, "b.mp4", "--id", "x") == (
        2,
        "",
        "tsm-run: --id names one video, but 2 were given\n",
    )
    assert tsm_run(video, "--id", "").code == 2


@pytest.mark.parametrize("name", ["-v.mp4", "a\nb.mp4", "[red]x.mp4", b"\xff.mp4", "ü .mp4"])
def test_odd_names(tsm_run: Command, video: Path, name: str | bytes) -> None:
    odd = Path(os.fsdecode(name))
    video.rename(odd)
    code, out, err = tsm_run("-o", "-", "--", odd)
    assert (code, err) == (0, "")
    assert found(out) == {odd.stem.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass"): FOUND}
    odd.write_bytes(b"")
    code, out, err = tsm_run("--", odd)
    assert (code, out, len(err.splitlines())) == (3, "", 1)
    assert err.endswith(".mp4: empty file\n")


# --- videos that give nothing ---------------------------------------------------------------------


def bad_videos(folder: Path) -> dict[Path, str]:
    """Files that cannot be analysed, each with a pattern of the reason."""
    noise = np.random.default_rng(0)
    moov_last = write_video(folder / "broken_end.mp4", counted(50))
    both = write_video(folder / "both.mkv", counted(25), silence_seconds=1.0)
    cut_off = write_video(folder / "cut.mkv", noise.integers(0, 255, (99, 48, 64, 3), dtype=np.uint8))
    (folder / "text.mp4").write_text("This is not a video.\n" * 50)
    (folder / "random.mp4").write_bytes(noise.bytes(50_000))
    (folder / "empty.mp4").touch()
    (folder / "folder").mkdir()
    sound_only(both, folder / "sound.mp4")
    no_frames(both, folder / "no_frames.mp4")
    return {
        folder / "missing.mp4": "no such file",
        folder / "folder": "no video in this folder",
        folder / "text.mp4": "not a readable video",
        folder / "random.mp4": "not a readable video",
        folder / "empty.mp4": "empty file",
        cut(moov_last, 0.5): "not a readable video",
        cut(cut_off, 0.1): "breaks off after .* leaves no whole interval of 0.5 s",
        folder / "sound.mp4": "no video stream",
        folder / "no_frames.mp4": "no frame of the video stream could be decoded",
        write_video(folder / "short.mp4", counted(12)): "0.480 s long, shorter than one interval of 0.5 s",
    }


def sound_only(source: Path, target: Path) -> None:
    import av

    with av.open(str(source)) as both, av.open(str(target), "w") as sound:
        stream = sound.add_stream_from_template(both.streams.audio[0])
        for packet in both.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                sound.mux(packet)


def no_frames(source: Path, target: Path) -> None:
    import av

    with av.open(str(source)) as both, av.open(str(target), "w", options={"movflags": "empty_moov"}) as none:
        none.add_stream_from_template(both.streams.video[0])
        none.start_encoding()


def test_bad_videos_alone(tsm_run: Command, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    for path, reason in bad_videos(tmp_path / "bad").items():
        code, out, err = tsm_run(path, "-o", tmp_path / "out.json")
        assert (code, out) == (3, ""), path
        assert re.fullmatch(re.escape(f"{path}: ") + f".*{reason}.*\n", err)
        assert not (tmp_path / "out.json").exists()
    assert tsm_run(*bad_videos_again(tmp_path), "-o", tmp_path / "out/").code == 3
    assert not (tmp_path / "out").exists()


def bad_videos_again(tmp_path: Path) -> list[Path]:
    return [*sorted((tmp_path / "bad").glob("*.mp4")), tmp_path / "bad" / "missing.mp4"]


def test_bad_videos_do_not_stop_the_others(tsm_run: Command, video: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    bad = bad_videos(tmp_path / "bad")
    code, out, err = tsm_run(*bad, video, "-o", "out.json")
    assert (code, out) == (1, "")
    assert found(Path("out.json").read_text()) == {"scene": FOUND}
    lines = err.splitlines()
    assert len(lines) == len(bad)
    for path, reason in bad.items():
        assert sum(re.match(re.escape(f"{path}: ") + f".*{reason}", line) is not None for line in lines) == 1


def test_a_video_that_breaks_off_gives_its_first_part(tsm_run: Command, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (150, 48, 64, 3), dtype=np.uint8)
    cut(write_video(tmp_path / "v.mkv", noise), 0.6)
    code, out, err = tsm_run("v.mkv")
    assert code == 0
    reported = json.loads(out)["external_data"]["videos"]["v"]
    assert reported["complete"] is False
    assert 4 <= reported["intervals"] <= 9
    assert re.fullmatch(r"v\.mkv: breaks off after \d\.\d\d s of the 6\.00 s it claims: .*\n", err)
    assert tsm_run("v.mkv", "--quiet").err == ""


# --- wrong usage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no video given; try: tsm-run VIDEO, or tsm-run --demo"),
        (["--demo", "-o", "demo.eaf"], "--demo takes no other option, got --output"),
        (["--demo", "v.mp4"], "--demo takes no other option, got a video"),
        (["scene.mp4", "--frobnicate"], "--frobnicate"),
        (["scene.mp4", "--format", "xml"], "'xml' is not one of"),
        (["scene.mp4", "--min-score", "2"], "--min-score"),
        (["scene.mp4", "--min-score", "nan"], "min-score"),
        (["scene.mp4", "--start", "x"], "--start"),
        (["scene.mp4", "--start", "nan"], "start"),
        (["scene.mp4", "--start", "inf"], "start inf: expected seconds"),
        (["scene.mp4", "--start", "3", "--end", "2"], "end 2: expected seconds, more than the start (3)"),
        (["scene.mp4", "--batch", "0"], "--batch"),
        (["scene.mp4", "-o", "nowhere/out.json"], "--output nowhere/out.json: there is no folder nowhere"),
        (["scene.mp4", "-o", ""], "--output is empty"),
        (["scene.mp4", "-o", "./scene.mp4", "--format", "json"], "would replace the video"),
        (["scene.mp4", "-o", "a.dat"], "--output a.dat: no format has the suffix .dat; known: .json"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    tsm_run: Command, video: Path, arguments: list[str], words: str
) -> None:
    before = video.read_bytes()
    code, out, err = tsm_run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("tsm-run: ")
    assert words in err
    assert err.count("\n") == 1
    assert video.read_bytes() == before


def test_version_and_help(tsm_run: Command) -> None:
    assert tsm_run("--version") == (0, f"tsm-tal {__version__}\n", "")
    code, out, err = tsm_run("--help")
    assert (code, err) == (0, "")
    assert "Find which action happens from when to when" in out


# --- which model ----------------------------------------------------------------------------------


def test_the_model_is_the_given_one_then_the_variable_then_the_folder(
    tsm_run: Command, video: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tsm_run(video, "--model", "nowhere").code == 4
    assert tsm_run(video).code == 0  # $TSM_MODEL
    monkeypatch.setenv("TSM_MODEL", "nothing")
    assert tsm_run(video) == (
        4, "", "tsm-run: nothing: no such bundle folder; write one with: tsm-export CHECKPOINT -o nothing\n"
    )  # fmt: skip
    assert tsm_run(video, "-m", tiny_bundle).code == 0
    monkeypatch.delenv("TSM_MODEL")
    (tmp_path / "bundle").symlink_to(tiny_bundle)
    assert tsm_run(video).code == 0


def test_the_demo_model_is_the_last_resort_and_says_so(
    tsm_run: Command, video: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "bundle").symlink_to(tiny_bundle)
    monkeypatch.setattr("tsm_runtime.bundle.finding.demo_folder", lambda: tmp_path / "demo")
    monkeypatch.delenv("TSM_MODEL")
    code, out, err = tsm_run(video)
    assert (code, found(out)) == (0, {"scene": FOUND})
    assert err.startswith("no model given: using the embedded demo model")
    assert err.count("\n") == 1


def test_an_unusable_bundle_leaves_no_output(tsm_run: Command, video: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "manifest.json").write_text('{"size": 1')
    code, out, err = tsm_run(video, "-m", "wrong", "-o", "out.json")
    assert (code, out) == (4, "")
    assert err.startswith("tsm-run: wrong/manifest.json: not JSON")
    assert err.count("\n") == 1
    assert not Path("out.json").exists()


def test_without_a_backend_the_extra_is_named(
    tsm_run: Command, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for backend in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, backend, None)
    code, out, err = tsm_run(video)
    assert (code, out) == (5, "")
    assert err.startswith("tsm-run: no backend is installed: pip install 'tsm-tal[cpu]'")


# --- what cannot be written -----------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_file(
    tsm_run: Command, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("out.json").write_text("before")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tsm_runtime.files._write", full)
    code, out, err = tsm_run(video, "-o", "out.json")
    assert (code, out, err) == (7, "", "tsm-run: cannot write out.json: No space left on device\n")
    assert Path("out.json").read_text() == "before"
    assert sorted(path.name for path in Path().iterdir()) == ["out.json", "scene.mp4"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tsm_run: Command, video: Path) -> None:
    Path("closed").mkdir(mode=stat.S_IREAD | stat.S_IEXEC)
    code, out, err = tsm_run(video, "-o", "closed/out.json")
    assert (code, out, err) == (7, "", "tsm-run: cannot write closed/out.json: Permission denied\n")


def test_a_video_id_does_not_lead_out_of_the_folder(tsm_run: Command, video: Path) -> None:
    Path("out").mkdir()
    code, _, err = tsm_run(video, "-o", "out", "--id", "../escaped")
    assert code == 2
    assert "would be written outside out" in err
    assert not Path("escaped.json").exists()


# --- in a process of its own ----------------------------------------------------------------------


@pytest.fixture
def environment(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    return {**os.environ, "TSM_MODEL": str(tiny_bundle), "COLUMNS": "100", "TERM": "xterm"}


def test_a_full_standard_output_is_a_failed_run(video: Path, environment: dict[str, str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", MAIN, video], stdout=full, stderr=-1, env=environment)
    assert (done.returncode, done.stderr.decode()) == (
        7, "tsm-run: cannot write to standard output: No space left on device\n"
    )  # fmt: skip


def test_a_reader_that_went_away_is_no_traceback(video: Path, environment: dict[str, str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", MAIN, video], stdout=writing, stderr=-1, env=environment)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_closed_standard_streams(video: Path, environment: dict[str, str]) -> None:
    closed_err = f'exec "$0" -c "{MAIN}" no.mp4 scene.mp4 2>&-'
    done = subprocess.run(["sh", "-c", closed_err, sys.executable], stdout=-1, env=environment)
    assert (done.returncode, found(done.stdout.decode())) == (1, {"scene": FOUND})
    closed_out = f'exec "$0" -c "{MAIN}" scene.mp4 >&-'
    done = subprocess.run(["sh", "-c", closed_out, sys.executable], stderr=-1, env=environment)
    assert done.returncode == 7
    assert done.stderr.startswith(b"tsm-run: standard output is closed")


def test_an_interrupt_leaves_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    size = (640, 480)
    picture = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    write_video(tmp_path / "slow.mkv", [picture if n % 2 else plain(0, size) for n in range(400)])
    command = [sys.executable, "-c", MAIN, *["slow.mkv"], "-o", "out/"]
    many = [f"{n}.mkv" for n in range(300)]
    for name in many:
        (tmp_path / name).symlink_to("slow.mkv")
    process = subprocess.Popen(
        [*command, *many],
        stdout=-1,
        stderr=-1,
        cwd=tmp_path,
        env=environment,
        # A shell that starts the tests in the background has them, and all they start, ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"tsm-run: interrupted\n")
    written = list((tmp_path / "out").iterdir())
    assert 0 < len(written) < 300
    assert all(json.loads(path.read_text())["results"] for path in written)


# --- on a terminal --------------------------------------------------------------------------------


def on_a_terminal(command: list[str], environment: dict[str, str], *, bar_only: bool = False) -> Outcome:
    """Run with standard error on a terminal, and standard output too unless `bar_only`."""
    controlling, terminal = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=terminal,
        stdout=subprocess.PIPE if bar_only else terminal,
        stderr=terminal,
        env=environment,
    )
    os.close(terminal)
    shown = b""
    while True:
        ready, _, _ = select.select([controlling], [], [], 60)
        try:
            part = os.read(controlling, 65536) if ready else b""
        except OSError:  # the other end is closed
            part = b""
        if not part:
            break
        shown += part
    out = process.communicate(timeout=60)[0] or b""
    os.close(controlling)
    return Outcome(process.returncode, out.decode(), shown.decode())


def test_a_terminal_gets_a_table_and_a_progress_bar(video: Path, environment: dict[str, str]) -> None:
    code, _, shown = on_a_terminal([sys.executable, "-c", MAIN, str(video)], environment)
    assert code == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert [row[:3] for row in rows] == [["dark", "0:00.00", "0:01.00"], ["bright", "0:01.50", "0:03.00"]]
    assert re.search(r"^scene: day \(0\.\d\d\)", text, re.MULTILINE)
    assert "x real time" in text
    assert text.index("x real time") < text.index("dark")


def test_a_terminal_beside_a_file_gets_the_bar_only(video: Path, environment: dict[str, str]) -> None:
    code, out, shown = on_a_terminal([sys.executable, "-c", MAIN, str(video)], environment, bar_only=True)
    assert (code, found(out)) == (0, {"scene": FOUND})
    assert re.search(r"scene\.mp4 .*\d+\.\d x real time .*\d:\d\d", shown)
    code, out, shown = on_a_terminal(
        [sys.executable, "-c", MAIN, str(video), "-q"], environment, bar_only=True
    )
    assert (code, found(out), shown) == (0, {"scene": FOUND}, "")


# --- memory ---------------------------------------------------------------------------------------


PEAK = f"""
import sys
sys.argv[0] = "tsm-run"
from tsm_runtime.commands.run import main
try:
    main()
finally:
    print({PEAK_KILOBYTES}, file=sys.stderr)
"""


def test_memory_does_not_grow_with_the_video(tmp_path: Path, environment: dict[str, str]) -> None:
    def peak_kilobytes(minutes: int) -> int:
        path = write_video(tmp_path / f"{minutes}.mp4", counted(60 * 8 * minutes, step=1), rate=8)
        command = [sys.executable, "-c", PEAK, str(path), "-o", str(tmp_path / "out.json")]
        done = subprocess.run(command, stderr=-1, env=environment, check=True)
        assert json.loads((tmp_path / "out.json").read_text())["external_data"]["videos"][str(minutes)][
            "intervals"
        ]
        return int(done.stderr)

    assert peak_kilobytes(10) - peak_kilobytes(1) < 20_000


def test_help_is_grouped_and_ends_with_examples(tsm_run: Command) -> None:
    done = tsm_run("-h")
    assert done.code == 0
    panels = [line for line in done.out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert panels[:3] == ["Arguments:", "Models and videos:", "Output:"]
    assert panels[-1] == "Examples:"
    assert max(map(len, done.out.splitlines())) <= 82
