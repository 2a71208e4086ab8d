"""`tsm-live` through its entry point: lines, exit codes, signals, pipes, full disks."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from entry import Command, command
from media import write_levels, write_video

pytest.importorskip("onnx")

from fakes import FREE, LEAST
from tiny_bundle import write_tiny_bundle, write_without_head
from tiny_online import tiny_online_model, write_online_bundle

from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.commands.live import main
from tsm_runtime.commands.run import main as run_main
from tsm_runtime.errors import UsageError
from tsm_runtime.formats.read_write import read_segments
from tsm_runtime.live.events import FORMAT, End, LiveSegment, Start, decode_event
from tsm_runtime.live.writer import LineWriter

DARK, GREY, BRIGHT = 20, 128, 235
SCENE = [(DARK, 1.0), (GREY, 0.5), (BRIGHT, 1.5)]
FOUND = [("dark", 0.0, 1.0), ("bright", 1.5, 3.0)]
MAIN = "from tsm_runtime.commands.live import main; main()"


@pytest.fixture
def place(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, and the tiny model."""
    monkeypatch.setenv("TSM_MODEL", str(tiny_bundle))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tsm_live(
    place: None, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Command:
    return command("tsm-live", main, monkeypatch, capfdbinary)


@pytest.fixture
def tsm_run(
    place: None, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Command:
    return command("tsm-run", run_main, monkeypatch, capfdbinary)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_levels(tmp_path_factory.mktemp("media") / "scene.mp4", SCENE)


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark for a minute, with a grey half second at the beginning."""
    return write_levels(
        tmp_path_factory.mktemp("media") / "minute.mp4", [(DARK, 0.5), (GREY, 0.5), (DARK, 59.0)]
    )


@pytest.fixture
def environment(tiny_bundle: Path) -> dict[str, str]:
    return {**os.environ, "TSM_MODEL": str(tiny_bundle)}


def lines(text: str | bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def segments(text: str | bytes) -> list[tuple[str, float, float]]:
    return [(e["label"], e["start"], e["end"]) for e in lines(text) if e["event"] == "segment"]


def begin(arguments: Sequence[object], environment: dict[str, str], **more: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", more.pop("program", MAIN), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        **more,
    )


def finish(process: subprocess.Popen[bytes], given: bytes | None = None) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(given, timeout=60)
    assert b"Traceback" not in err
    return process.returncode, out, err


# --- what is written ------------------------------------------------------------------------------


def test_lines_of_a_run(tsm_live: Command, video: Path) -> None:
    code, out, err = tsm_live(video)
    assert (code, err) == (0, "")
    events = [decode_event(line) for line in out.splitlines()]
    start, *found, end = events
    assert isinstance(start, Start)
    assert isinstance(end, End)
    assert (start.format, start.video, start.source, start.drop) == (FORMAT, "scene", str(video), "none")
    assert len(start.models[0].bundle_sha256) == 64
    assert [(e.label, e.start, e.end) for e in found if isinstance(e, LiveSegment)] == FOUND
    assert (end.reason, end.complete, end.frames, end.intervals, end.segments) == (
        "the stream ended", True, 75, 6, 2
    )  # fmt: skip
    assert all('"wall":"2' in line and "Z" in line for line in out.splitlines())


SETTINGS = [
    {"window": 0.9},
    {"min_duration": 1.2},
    {"window": 2.0, "min_duration": 0.7},
    {"smoothing": 1.2},
    {"stride": 0.125},
    {"smoothing": 0.8, "stride": 0.25, "window": 1.0, "min_duration": 0.5},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_count_as_in_files(
    tsm_live: Command, tsm_run: Command, tmp_path: Path, video: Path, settings: dict[str, float]
) -> None:
    """Given as options or by the bundle; the first line tells them."""
    flags = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
    code, out, err = tsm_live(video, *flags)
    assert (code, err) == (0, "")
    assert tsm_run(video, "-o", "v.json", "-q", *flags).code == 0
    found = [(s.label, s.start_seconds, s.end_seconds) for s in read_segments(Path("v.json"))["scene"]]
    assert segments(out) == found != []
    keys = {f"{name}_seconds": value for name, value in settings.items()}
    model = lines(out)[0]["models"][0]
    assert {key: value for key, value in model.items() if key.endswith("_seconds")} == {
        "interval_seconds": 0.5, **keys
    }  # fmt: skip
    bundle = write_tiny_bundle(tmp_path / "set", format_version=3, **keys)
    code, out, err = tsm_live(video, "--model", bundle)
    assert (code, err, segments(out)) == (0, "", found)
    off = [part for name in settings for part in (f"--{name.replace('_', '-')}", 0)]
    assert segments(tsm_live(video, "--model", bundle, *off).out) == FOUND


def test_smoothing_too_wide_for_a_stream_is_refused_in_a_line(
    tsm_live: Command, tsm_run: Command, video: Path
) -> None:
    """Before the model is opened; a file takes it."""
    code, out, err = tsm_live(video, "--smoothing", "1e4")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("tsm-live: smoothing 10000 s: expected 2048 s or less in a live run")
    assert tsm_run(video, "--smoothing", "1e4").code == 0
    err = tsm_live(video, "--stride", "0.3").err
    assert (err.count("(model "), err.count("\n")) == (1, 1)


def test_open_segments_are_told_too(tsm_live: Command, video: Path) -> None:
    out = tsm_live(video, "--open", "--batch", "1").out
    assert [(e["event"], e["end"]) for e in lines(out) if e.get("label") == "dark"] == [
        ("open", 0.5),
        ("open", 1.0),
        ("segment", 1.0),
    ]


def test_the_demo_live_is_the_demo_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A real network: labels and bounds are equal, scores but for the rounding of another batch size."""
    monkeypatch.delenv("TSM_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    tsm_run = command("tsm-run", run_main, monkeypatch, capfdbinary)
    tsm_live = command("tsm-live", main, monkeypatch, capfdbinary)
    video = demo_folder() / "video.mp4"
    model = ("--model", write_without_head(demo_folder() / "bundle", tmp_path / "clips"))
    assert tsm_run(video, *model, "-o", "file.json").code == 0
    (expected,) = read_segments(Path("file.json")).values()
    for batch in (1, 8):
        code, out, err = tsm_live(video, *model, "--batch", batch)
        assert (code, err) == (0, "")
        found = [e for e in lines(out) if e["event"] == "segment"]
        assert segments(out) == [(s.label, s.start_seconds, s.end_seconds) for s in expected]
        assert [e["score"] for e in found] == pytest.approx([s.score for s in expected], abs=1e-5)


def test_an_ensemble_live_is_the_ensemble_of_files(
    tsm_live: Command, tsm_run: Command, tiny_bundle: Path, tmp_path: Path, video: Path
) -> None:
    other = write_online_bundle(tmp_path / "other")
    options = ("--model", tiny_bundle, "--model", other, "--weights", "0.6,0.4", "--precision", "fp32")
    assert tsm_run(video, *options, "-o", "file.json").code == 0
    (expected,) = read_segments(Path("file.json")).values()
    code, out, err = tsm_live(video, *options)
    assert (code, err) == (0, "")
    assert segments(out) == [(s.label, s.start_seconds, s.end_seconds) for s in expected] == FOUND
    assert [m["weight"] for m in lines(out)[0]["models"]] == [0.6, 0.4]


def test_runs_are_appended(tsm_live: Command, video: Path) -> None:
    path = Path("log.jsonl")
    path.write_text('{"event":"segm')  # of a run that was killed
    assert tsm_live(video, "--output", path) == (0, "", "")
    assert tsm_live(video, "--output", path, "--id", "again") == (0, "", "")
    half, *whole = path.read_text().splitlines()
    assert half == '{"event":"segm'
    assert [
        json.loads(line).get("video") for line in whole if '"start"}' in line or '"event":"start"' in line
    ] == [
        "scene",
        "again",
    ]


def test_lines_are_read_back_as_segments(tsm_live: Command, video: Path, tmp_path: Path) -> None:
    for name in ("scene", "again"):
        tsm_live(video, "--open", "--output", "log.jsonl", "--id", name)
    found = read_segments(Path("log.jsonl"))
    assert {k: [(s.label, s.start_seconds, s.end_seconds) for s in v] for k, v in found.items()} == {
        "scene": FOUND,
        "again": FOUND,
    }
    tsm_live(video, "--output", "log.jsonl", "--id", "scene")
    with pytest.raises(
        UsageError, match=r"log\.jsonl, line \d+: another run on 'scene', whose times restart"
    ):
        read_segments(Path("log.jsonl"))


def test_a_camera_has_wall_times(tsm_live: Command, video: Path) -> None:
    """A file at its own pace is like a camera: segments are reported about when they end."""
    out = tsm_live(video, "--pace").out
    assert lines(out)[0]["drop"] == "oldest"
    first, second = (e for e in lines(out) if e["event"] == "segment")
    assert first["start_wall"] < first["end_wall"] < second["start_wall"] < first["wall"]
    assert first["wall"] < second["wall"]


# --- pipes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "more"),
    [
        (".ts", {}),
        (".mkv", {}),
        (".mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        (".y4m", {"codec": "wrapped_avframe"}),
    ],
)
def test_a_pipe_of_any_kind(
    suffix: str, more: dict[str, Any], tmp_path: Path, environment: dict[str, str]
) -> None:
    path = write_levels(tmp_path / f"scene{suffix}", SCENE, **more)
    code, out, err = finish(begin(["-"], environment), path.read_bytes())
    assert (code, err) == (0, b"")
    assert lines(out)[0]["source"] == "-"
    assert segments(out) == FOUND


def test_a_pipe_that_breaks_off(tmp_path: Path, environment: dict[str, str]) -> None:
    """What came is reported; the pipe has an end, whatever the sender meant."""
    path = write_levels(tmp_path / "scene.mkv", SCENE)
    code, out, _ = finish(begin(["-"], environment), path.read_bytes()[: path.stat().st_size * 4 // 5])
    assert code == 0
    assert segments(out)[0] == FOUND[0]
    assert lines(out)[-1]["event"] == "end"


@pytest.mark.parametrize(
    ("given", "why"), [(b"", "cannot be opened"), (b"no video " * 99, "cannot be opened")]
)
def test_a_pipe_without_a_video(given: bytes, why: str, environment: dict[str, str]) -> None:
    code, out, err = finish(begin(["-"], environment), given)
    assert (code, out) == (3, b"")
    assert err.startswith(f"tsm-live: -: {why} (".encode())
    assert err.count(b"\n") == 1


def test_a_named_pipe(tmp_path: Path, video: Path, environment: dict[str, str]) -> None:
    data = write_levels(tmp_path / "scene.ts", SCENE).read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = begin([pipe], environment)
    pipe.write_bytes(data)
    code, out, err = finish(process)
    assert (code, err) == (0, b"")
    assert segments(out) == FOUND


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_closes_what_is_open(
    number: int, code: int, minute: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    process = begin([minute, "--pace", "--open", "--output", log], environment)
    until(log, '"start":1.0')
    process.send_signal(number)
    left, out, err = finish(process)
    assert (left, out) == (code, b"")
    assert err == (b"tsm-live: interrupted\n" if code else b"")
    text = log.read_text()
    end = lines(text)[-1]
    assert (end["event"], end["reason"]) == ("end", "stopped")
    assert segments(text) == [("dark", 0.0, 0.5), ("dark", 1.0, end["intervals"] * 0.5)]


def until(path: Path, text: str) -> None:
    """Wait until a file holds a text."""
    for _ in range(600):
        if path.exists() and text in path.read_text():
            return
        select.select([], [], [], 0.1)
    raise AssertionError(f"{text} never came")


def test_a_second_interrupt_ends_it_at_once(minute: Path, environment: dict[str, str]) -> None:
    program = (
        "import sys, time\n"
        "from tsm_runtime.backends.onnxruntime import OnnxruntimeBackend\n"
        "def infer(self, frames):\n"
        "    print('scoring', file=sys.stderr, flush=True)\n"
        "    time.sleep(100)\n"
        "OnnxruntimeBackend.infer = infer\n" + MAIN
    )
    process = begin([minute], environment, program=program)
    assert process.stderr is not None
    assert process.stderr.readline() == b"scoring\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == -signal.SIGINT


def test_an_interrupt_while_nothing_comes(environment: dict[str, str]) -> None:
    """The sender of a pipe is silent: its reader hangs in a read that nothing can break off."""
    process = begin(
        ["-"], environment, program="import sys; print('on', file=sys.stderr, flush=True)\n" + MAIN
    )
    assert process.stderr is not None
    assert process.stderr.readline() == b"on\n"
    for _ in range(100):  # until it has its handlers
        caught = next(
            line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "SigCgt" in line
        )
        if int(caught.split()[1], 16) & 1 << signal.SIGTERM - 1:
            break
        select.select([], [], [], 0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    out, err = process.communicate()
    assert (out, err) == (b"", b"tsm-live: interrupted\n")


def test_a_reader_that_leaves_is_the_end(minute: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """It leaves after the first line, whether or not there will ever be another one to write."""
    silent = write_levels(tmp_path / "silent.mp4", [(GREY, 59.0)])
    for video in (minute, silent):
        with begin([video, "--pace"], environment) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert b'"event":"start"' in process.stdout.readline()
            process.stdout.close()
            assert process.wait(40) == 0
            assert process.stderr.read() == b""


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_full_disk(tsm_live: Command, video: Path) -> None:
    code, out, err = tsm_live(video, "--output", "/dev/full")
    assert (code, out) == (7, "")
    why = "No space left on device; the earlier lines are complete"
    assert err == f"tsm-live: cannot write to /dev/full: {why}\n"


def test_a_full_disk_leaves_whole_lines(video: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """The file may have 600 bytes: the start line and one segment, but not the next."""
    log = tmp_path / "log.jsonl"
    process = begin(
        [video, "--output", log],
        environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600)),
    )
    code, _, err = finish(process)
    assert (code, err) == (
        7,
        f"tsm-live: cannot write to {log}: File too large; the earlier lines are complete\n".encode(),
    )
    assert [entry["event"] for entry in lines(log.read_text())] == ["start", "segment"]


def test_an_output_that_cannot_be_opened(tsm_live: Command, video: Path) -> None:
    code, _, err = tsm_live(video, "--output", "nowhere/log.jsonl")
    assert (code, err) == (7, "tsm-live: cannot write to nowhere/log.jsonl: No such file or directory\n")


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        ([], 2, "no stream given; try: tsm-live SOURCE"),
        (["a.mp4", "b.mp4", "--id", "x"], 2, "--id names one stream, but 2 were given"),
        (["x=a.mp4", "x=b.mp4"], 2, "two streams named 'x'"),
        (["--streams", "none.toml"], 2, "none.toml: cannot be read: No such file"),
        (["ftp://host/a.mp4"], 2, "ftp:// is no kind of stream that tsm-live knows (http, https, "),
        (["a.mp4", "--format", "csv"], 2, "No such option: --format"),
        (["a.mp4", "--report", "a.html"], 2, "No such option: --report"),
        (["a.mp4", "--start", "3"], 2, "No such option: --start"),
        (["a.mp4", "--id", " "], 2, "an empty --id"),
        (["a.mp4"], 3, "a.mp4: no such file"),
        (["/dev/video77"], 3, "/dev/video77: cannot be opened (No such file or directory)"),
        (["rtsp://me:secret@127.0.0.1:9/a"], 3, "rtsp://127.0.0.1:9/a: cannot be opened ("),
    ],
)  # fmt: skip
def test_what_is_refused(arguments: list[str], code: int, why: str, tsm_live: Command) -> None:
    found = tsm_live(*arguments)
    assert (found.code, found.out) == (code, "")
    assert found.err.startswith(f"tsm-live: {why}")
    assert found.err.count("\n") == 1
    assert "secret" not in found.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["rtsp://me:secret@host/a"], "an address or - is a stream: use tsm-live"),
        (["-"], "an address or - is a stream: use tsm-live"),
        (["a.mp4", "--open"], "No such option: --open"),
        (["a.mp4", "--reconnect", "0"], "No such option: --reconnect"),
    ],
)
def test_files_have_no_options_of_streams(arguments: list[str], why: str, tsm_run: Command) -> None:
    code, out, err = tsm_run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"tsm-run: {why}")
    assert "secret" not in err


def test_live_is_an_alias(tsm_run: Command, video: Path) -> None:
    code, out, err = tsm_run("--live", video, "--open")
    assert (code, err, segments(out)) == (0, "", FOUND)
    refused = tsm_run(video, "--live", "--format", "csv")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert refused.err.startswith("tsm-run --live: No such option: --format")
    assert "Usage: tsm-run --live [OPTIONS]" in tsm_run("--live", "--help").out


def test_a_closed_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    from tsm_runtime.errors import RunError

    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(RunError, match="standard output is closed; choose a file with --output"):
        LineWriter(None)


# --- online models --------------------------------------------------------------------------------


def test_the_online_model_runs_where_there_is_one(tsm_live: Command, tmp_path: Path, video: Path) -> None:
    """The two models of this bundle do not say the same, which tells them apart."""
    bundle = write_online_bundle(tmp_path / "both")
    score = {}
    for name, flags in (
        ("online", []),
        ("precision", ["--precision", "fp32"]),
        ("backend", ["--backend", "onnxruntime"]),
        ("quiet", ["-q"]),
    ):
        code, out, err = tsm_live(video, "--model", bundle, *flags)
        assert code == 0
        assert segments(out) == FOUND
        reported = (
            f"{bundle}/model.online.onnx runs, one frame per call; --precision fp32 takes whole clips\n"
        )
        assert err == (reported if name == "online" else "")
        score[name] = [e["score"] for e in lines(out) if e["event"] == "segment"]
        assert lines(out)[0]["models"][0]["backend"].endswith("online") == (name in ("online", "quiet"))
    assert score["online"] == score["quiet"]
    assert score["precision"] == score["backend"]
    assert abs(score["online"][0] - score["precision"][0]) > 1e-5


def test_the_online_model_on_odd_timing(tsm_live: Command, tmp_path: Path) -> None:
    """Gaps and slow frames: what the same model says of whole clips."""
    from media import plain

    bundle = write_online_bundle(tmp_path / "both")
    times = [0, 40, 80, 700, 760, 1900, 2300, 2340, 2700, 3100, 3140, 3500, 4100, 4140, 4600]
    path = write_video(tmp_path / "v.mkv", [plain(20 if n % 5 else 235) for n in range(15)], pts=times)
    from tsm_runtime.api import load, run

    expected = run(path, load(bundle, online=True))
    out = tsm_live(path, "--model", bundle).out
    assert segments(out) == [(s.label, s.start_seconds, s.end_seconds) for s in expected.segments]
    assert lines(out)[-1]["intervals"] == expected.num_intervals
    assert lines(out)[-1]["gaps"] == len(expected.gaps)
    found = [e["score"] for e in lines(out) if e["event"] == "segment"]
    assert found == [round(s.score, 6) for s in expected.segments]


def test_an_online_model_with_a_sigmoid_head(tsm_live: Command, tmp_path: Path, video: Path) -> None:
    """Its thresholds count; what the same model says of whole clips, where more than one label is found."""
    head = {"format_version": 3, "head": "sigmoid", "thresholds": LEAST, "action_labels": FREE}
    bundle = write_online_bundle(tmp_path / "free", tiny_online_model(sigmoid=True), **head)
    from tsm_runtime.api import load, run

    expected = run(video, load(bundle, online=True)).segments
    out = tsm_live(video, "--model", bundle).out
    assert lines(out)[0]["models"][0]["backend"].endswith("online")
    assert sorted(segments(out)) == sorted((s.label, s.start_seconds, s.end_seconds) for s in expected)
    assert {("dark", 0.0, 1.5), ("grey", 1.0, 1.5)} <= set(segments(out))


@pytest.mark.parametrize("settings", [{"window_seconds": 0.8}, {"stride_seconds": 0.25}])
def test_an_online_model_on_windows_that_overlap_takes_whole_clips(
    tsm_live: Command, tmp_path: Path, video: Path, settings: dict[str, float]
) -> None:
    """The command runs the bundle's other model; a program that insists gets what a file gives."""
    bundle = write_online_bundle(tmp_path / "both")
    ((flag, value),) = ((f"--{name.split('_')[0]}", value) for name, value in settings.items())
    code, out, err = tsm_live(video, "--model", bundle, flag, value)
    assert (code, err) == (0, "")
    assert not lines(out)[0]["models"][0]["backend"].endswith("online")
    from tsm_runtime.api import load, run, stream
    from tsm_runtime.models.member import Overrides

    model = load(bundle, online=True, overrides=Overrides(**settings))
    found = [(e.label, e.start, e.end) for e in stream(video, model) if isinstance(e, LiveSegment)]
    assert found == [(s.label, s.start_seconds, s.end_seconds) for s in run(video, model).segments] != []


def test_an_online_model_whose_scores_are_smoothed(tsm_live: Command, tmp_path: Path, video: Path) -> None:
    bundle = write_online_bundle(tmp_path / "both")
    from tsm_runtime.api import load, run
    from tsm_runtime.models.member import Overrides

    code, out, _ = tsm_live(video, "--model", bundle, "--smoothing", 1.4)
    assert (code, lines(out)[0]["models"][0]["backend"][-6:]) == (0, "online")
    expected = run(video, load(bundle, online=True, overrides=Overrides(smoothing_seconds=1.4))).segments
    assert segments(out) == [(s.label, s.start_seconds, s.end_seconds) for s in expected] != []


def test_an_ensemble_of_both_kinds(tsm_live: Command, tiny_bundle: Path, tmp_path: Path, video: Path) -> None:
    """One member takes whole clips and the other a frame a call: the same as in one pass over the file."""
    from tsm_runtime.api import load, run

    bundle = write_online_bundle(tmp_path / "both")
    code, out, err = tsm_live(video, "--model", tiny_bundle, "--model", bundle, "--weights", "1,3")
    assert (code, err.count("\n")) == (0, 1)
    assert [m["backend"].endswith("online") for m in lines(out)[0]["models"]] == [False, True]
    expected = run(video, [load(tiny_bundle), load(bundle, online=True)], weights=[1, 3])
    assert segments(out) == [(s.label, s.start_seconds, s.end_seconds) for s in expected.segments] == FOUND
    scores = [e["score"] for e in lines(out) if e["event"] == "segment"]
    assert scores == pytest.approx([s.score for s in expected.segments], abs=1e-5)
