"""`tsm-live` on several streams, and its readable view."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from entry import Command, command
from fakes import brightness_member
from media import write_levels

pytest.importorskip("onnx")

from tsm_runtime.audio.spec import SoundSpec
from tsm_runtime.backends.online import ONLINE_MODEL
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.manifest import SoundInfo
from tsm_runtime.commands import live_outputs, run_live
from tsm_runtime.commands.live import main
from tsm_runtime.formats.read_write import read_segments
from tsm_runtime.models.choice import BackendRequest

DARK, GREY, BRIGHT = 20, 128, 235
FOUND = {"one": [("dark", 0.0, 1.0)], "two": [("bright", 1.0, 2.0)]}


@pytest.fixture
def tsm_live(
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> Command:
    """In a folder with two videos."""
    monkeypatch.setenv("TSM_MODEL", str(tiny_bundle))
    monkeypatch.chdir(tmp_path)
    write_levels(tmp_path / "a.mp4", [(DARK, 1.0), (GREY, 1.0)])
    write_levels(tmp_path / "b.mp4", [(GREY, 1.0), (BRIGHT, 1.0)])
    return command("tsm-live", main, monkeypatch, capfdbinary)


def spans(path: Path) -> dict[str, list[tuple[str, float, float]]]:
    found = read_segments(path)
    return {video: [(s.label, s.start_seconds, s.end_seconds) for s in found[video]] for video in found}


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_lines_of_several_streams_in_one_place(tsm_live: Command) -> None:
    code, out, err = tsm_live("one=a.mp4", "two=b.mp4")
    assert (code, err) == (0, "")
    assert {e["stream"] for e in events(out)} == {"one", "two"}
    assert tsm_live("one=a.mp4", "two=b.mp4", "-o", "all.jsonl") == (0, "", "")
    assert spans(Path("all.jsonl")) == FOUND


def test_a_file_for_each_stream(tsm_live: Command) -> None:
    Path("cams.toml").write_text('[streams]\none = "a.mp4"\ntwo = "b.mp4"\n')
    assert tsm_live("--streams", "cams.toml", "-o", "out/") == (0, "", "")
    assert {name: spans(Path(f"out/{name}.jsonl")) for name in FOUND} == {n: {n: FOUND[n]} for n in FOUND}
    assert "stream" not in events(Path("out/one.jsonl").read_text())[0]


def test_a_stream_that_fails_is_reported_and_the_others_go_on(tsm_live: Command) -> None:
    code, _, err = tsm_live("one=a.mp4", "gone=no.mp4", "-o", "all.jsonl")
    assert (code, err) == (1, "gone: no.mp4: no such file\n")
    assert spans(Path("all.jsonl")) == {"one": FOUND["one"]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("streams = 3", "Expected `object`, got `int`"),
        ("[stream]", "Object contains unknown field `stream`"),
        ('[streams]\n"a/b" = "x"', "stream 'a/b': expected a name of letters"),
        ("[streams", "expected [streams] and lines as cam1 = "),
    ],
)
def test_a_wrong_list_is_refused(tsm_live: Command, text: str, why: str) -> None:
    Path("cams.toml").write_text(text)
    code, out, err = tsm_live("--streams", "cams.toml")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("tsm-live: cams.toml: ")
    assert why in err


def test_a_terminal_gets_a_readable_view(tsm_live: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_outputs, "is_terminal", lambda _: True)
    code, out, err = tsm_live("a.mp4")
    assert (code, err) == (0, "")
    start, segment, end = out.splitlines()
    assert "watching a.mp4 (" in start
    assert segment[8:].split() == ["dark", "0.00", "to", "1.00", "s", "score", *segment.split()[7:]]
    assert "ended: the stream ended; 1 segment in 2.00 s" in end
    assert events(tsm_live("a.mp4", "--json").out)[0]["event"] == "start"


def test_what_happens_to_a_stream_in_words() -> None:
    wall = datetime(2026, 1, 1, tzinfo=UTC)
    from tsm_runtime.live.events import Discontinuity, Drop, LiveGap, Resumption

    said = [
        LiveGap(wall=wall, time=3.0, start=1.0, end=2.5),
        Drop(wall=wall, time=3.0, start=1.0, end=2.5, intervals=3),
        Discontinuity(wall=wall, time=3.0, reason="gone"),
        Resumption(wall=wall, time=4.0, attempts=2),
    ]
    assert [live_outputs.describe_event(event) for event in said] == [
        "no frame from 1.00 to 2.50 s",
        "too slow: 3 intervals from 1.00 to 2.50 s dropped",
        "lost at 3.00 s: gone",
        "back at 4.00 s after 2 attempts",
    ]


def test_the_decoding_of_a_bundle_makes_the_segments(tsm_live: Command) -> None:
    from tsm_runtime.bundle.finding import demo_folder

    bundle = demo_folder() / "bundle"
    step = 0.125  # of the demo's frames, 31 of which its head looks ahead

    def model_and_err(*more: str) -> tuple[dict[str, object], str]:
        code, out, err = tsm_live("a.mp4", "-m", bundle, *more)
        assert code == 0
        assert events(out)[-1]["intervals"] > 0
        return events(out)[0]["models"][0], err

    described, err = model_and_err()
    assert (described["decoding"], described["lookahead_seconds"], err) == ("merge", 0.0, "")
    assert described["delay_seconds"] == 0.5 + (31 + 1 + 1) * step  # of smoothing and of merging one each
    described, err = model_and_err("--decoding", "viterbi", "--lookahead", "1")
    assert (described["decoding"], described["lookahead_seconds"], err) == ("viterbi", 1.0, "")
    assert described["delay_seconds"] == 0.5 + (31 + 1 + 8 + 1) * step
    described, err = model_and_err("--decoding", "clips")
    assert ("decoding" in described, "delay_seconds" in described, err) == (False, False, "")
    _, err = model_and_err("--decoding", "proposals")
    assert err == (
        f"{bundle}: segments are merged from scores of frames, as proposals need the whole video\n"
    )
    assert tsm_live("a.mp4", "-m", bundle, "-q", "--decoding", "proposals").err == ""


def test_a_look_ahead_out_of_range_is_refused(tsm_live: Command) -> None:
    code, _, err = tsm_live("a.mp4", "--lookahead", "601")
    assert (code, err) == (2, "tsm-live: lookahead 601: expected 0 to 600 seconds\n")


def test_what_needs_a_whole_file_is_reported() -> None:
    """Joint models do not run on streams."""
    member = brightness_member()
    assert [*run_live._what_differs(member)] == []
    both = replace(member, sound=object(), joint=object())  # type: ignore[arg-type]
    assert [line.split(":")[0] for line in run_live._what_differs(both)] == [
        "views and windows are scored one by one"
    ]


def test_a_sound_branch_goes_before_an_online_model(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = load_bundle(tiny_bundle)
    files = {**bundle.manifest.files, ONLINE_MODEL: next(iter(bundle.manifest.files.values()))}
    sound = SoundInfo(backbone_sha256="", spec=SoundSpec())
    hears = msgspec.structs.replace(
        bundle, manifest=msgspec.structs.replace(bundle.manifest, files=files, sound=sound)
    )
    opened = brightness_member()
    monkeypatch.setattr(run_live, "open_member", lambda *_: opened)
    assert run_live.open_live_member(hears, BackendRequest()) is opened
    assert capsys.readouterr().err == (
        f"{tiny_bundle / ONLINE_MODEL} gives its sound branch no features: whole clips are scored\n"
    )
    assert run_live.open_live_member(hears, BackendRequest(precision="fp32")) is opened
    assert capsys.readouterr().err == ""
