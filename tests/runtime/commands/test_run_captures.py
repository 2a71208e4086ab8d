"""`tsm-run` on captures: each member on the videos of its view, fused as `tsm-fuse` fuses their files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from entry import Command, Outcome, command
from media import cut, write_levels

from tsm_runtime.commands import fuse as fuse_cli
from tsm_runtime.commands import run as cli

OFFSETS = {"binocular/c1/clip1": -0.7, "binocular/c1/clip2": 2.3000004, "binocular/c2/clip1": None}
"""In seconds; that of the second clip is finer than files hold."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with set/ in the layout of 360+x and the bundles pan, front, ego and fast, each of its view.

    c1 has all views but monocular, two clips of the glasses; c2 lacks third_person; c3 has only monocular.
    """
    pytest.importorskip("onnx")
    from tiny_bundle import softer_model, write_tiny_bundle

    folder = tmp_path_factory.mktemp("captures")
    videos = {
        "panoramic/c1": [(20, 1.0), (128, 0.5), (235, 1.5), (20, 0.5), (100, 1.0), (235, 0.6)],
        "third_person/c1": [(20, 1.3), (235, 2.0), (20, 1.0)],
        "binocular/c1/clip1": [(235, 1.0), (20, 1.0), (128, 0.7)],
        "binocular/c1/clip2": [(20, 1.5), (128, 0.7)],
        "panoramic/c2": [(235, 1.0), (20, 1.0)],
        "binocular/c2/clip1": [(20, 1.0), (235, 1.0)],
        "monocular/c3/clip1": [(20, 1.0)],
    }
    for name, levels in videos.items():
        path = folder / "set" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_levels(path, levels)
    softer = softer_model()
    reported: dict[str, Any] = {"format_version": 3}
    write_tiny_bundle(folder / "pan", view="panoramic", **reported)
    write_tiny_bundle(folder / "front", softer, view="third_person", **reported)
    write_tiny_bundle(folder / "ego", softer, view="binocular", crop="left", **reported)
    write_tiny_bundle(folder / "fast", softer, view="panoramic", interval_seconds=0.3, **reported)
    write_tiny_bundle(folder / "both", view="panoramic,third_person", **reported)
    write_tiny_bundle(folder / "untold", softer)
    (folder / "split.json").write_text(json.dumps({"format": "tsm-tal split 1", "offsets": OFFSETS}))
    return folder


@pytest.fixture
def run(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Command:
    """`tsm-run` in a folder that holds what `made` does."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TSM_MODEL", raising=False)
    return command("tsm-run", cli.main, monkeypatch, capfdbinary)


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    return command("tsm-fuse", fuse_cli.main, monkeypatch, capfdbinary)


def document(done: Outcome) -> Any:
    assert done.code == 0, done.err
    return json.loads(done.out)


def of(document: Any, capture: str) -> Any:
    """What is reported of a capture."""
    reported = dict(document["external_data"]["videos"][capture])
    return document["results"][capture], document["scenes"][capture], reported


def night(scenes: Any) -> float:
    return next(float(scene["score"]) for scene in scenes if scene["label"] == "night")


PFE = ("-m", "pan", "-m", "front", "-m", "ego")


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--weights", "0.7,0.2,0.4", "--min-score", 0.1),
        ("--method", "wbf", "--iou", 0.2, "--denominator", "present"),
        ("--method", "soft-nms-linear", "--iou", 0.1),
    ],
)
def test_a_capture_is_the_fusion_of_its_views(run: Command, fuse: Command, flags: tuple[object, ...]) -> None:
    folders = {"pan": "panoramic", "front": "third_person", "ego": "binocular"}
    for model, view in folders.items():
        assert run(f"set/{view}", "-m", model, "-o", f"{model}.json").code == 0
    files = [f"{model}.json" for model in folders]
    expected = document(fuse(*files, "--offsets", "split.json", *flags))
    for jobs in (1, 3):
        captures = ("--capture", "set/c1", "--capture", "set/c2", "--offsets", "split.json")
        found = document(run(*captures, *PFE, "--jobs", jobs, *flags, "-q"))
        assert list(found["results"]) == ["c1", "c2"]
        for capture in ("c1", "c2"):
            assert of(found, capture) == of(expected, capture)
    assert of(expected, "c1")[2]["members"] == [1, 2, 3]
    assert of(expected, "c2")[2]["members"] == [1]  # no front, and a clip of unknown offset


def test_segments_are_moved_by_the_offset(run: Command) -> None:
    """By hand: a clip that begins 0.7 s before the capture, and one 2.3 s after it."""
    Path("o.csv").write_text("video,offset_seconds\nbinocular/c1/clip1,-0.7\nbinocular/c1/clip2,2.3\n")
    alone = document(run("set/binocular/c1", "-m", "ego"))
    spans = {k: [(s["label"], *s["segment"]) for s in found] for k, found in alone["results"].items()}
    assert spans == {
        "c1/clip1": [("bright", 0.0, 1.0), ("dark", 1.0, 2.0)],
        "c1/clip2": [("dark", 0.0, 1.5)],
    }
    found = document(run("--capture", "set/c1", "-m", "ego", "--offsets", "o.csv"))
    segments, scenes, reported = of(found, "c1")
    assert [(s["label"], *s["segment"]) for s in segments] == [
        ("bright", 0.0, 0.3),
        ("dark", 0.3, 1.3),
        ("dark", 2.3, 3.8),
    ]
    assert reported["duration"] == pytest.approx(2.3 + 56 / 25)
    assert reported["intervals"] == 5 + 4
    first, second = (night(alone["scenes"][f"c1/clip{number}"]) for number in (1, 2))
    assert night(scenes) == pytest.approx((5 * first + 4 * second) / 9, abs=2e-6)
    assert abs(first - second) > 0.1
    assert found["external_data"]["captures"] == {
        "c1": {"binocular/c1/clip1": -0.7, "binocular/c1/clip2": 2.3}
    }


def test_a_missing_view_leaves_the_denominator(run: Command) -> None:
    alone = document(run("set/panoramic/c2.mp4", "-m", "pan"))
    done = run("--capture", "set/c2", "-m", "pan", "-m", "front")
    assert done.err == "capture c2: no third_person video; left out of the fusion\n"
    found = document(done)
    assert found["results"] == alone["results"]
    assert found["scenes"] == alone["scenes"]
    assert found["external_data"]["videos"]["c2"]["members"] == [1]
    both = document(run("--capture", "set/panoramic/c1.mp4", "-m", "pan", "-m", "front"))
    assert both["external_data"]["videos"]["c1"]["members"] == [1, 2]


def test_all_captures_of_a_folder(run: Command) -> None:
    done = run("--capture", "set", "-m", "pan", "-m", "ego", "--offsets", "split.json", "-o", "out/")
    assert done.code == 1
    assert sorted(path.name for path in Path("out").iterdir()) == ["c1.json", "c2.json"]
    first, *others = done.err.splitlines()
    assert first == (
        "capture c2: no offset of binocular/c2/clip1 is known; left out of the fusion (--offsets FILE gives"
        " one)"
    )
    assert others == [
        "capture c3: no panoramic video; left out of the fusion",
        "capture c3: no binocular video; left out of the fusion",
        "capture c3: no video of it gave a result",
    ]
    done = run("--capture", "set/c3", "--capture", "set/c2", "-m", "front", "-q")
    assert (done.code, done.out) == (2, "")
    assert "no member for any of the views: members see third_person, the captures have" in done.err


def test_members_of_one_view_share_its_decoding(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from tsm_runtime.pipeline import reading as videos

    opened: list[Path] = []
    original = videos.VideoReader
    monkeypatch.setattr(
        videos,
        "VideoReader",
        lambda path, *rest, **more: opened.append(Path(path)) or original(path, *rest, **more),
    )
    together = document(run("--capture", "set/c1", "-m", "pan", "-m", "front", "-m", "fast"))
    assert [path.parent.name for path in opened] == ["panoramic", "third_person"]
    assert together["external_data"]["videos"]["c1"]["members"] == [1, 2, 3]
    assert [m["model"]["view"] for m in together["external_data"]["members"]] == [
        "panoramic",
        "third_person",
        "panoramic",
    ]


def test_a_model_for_several_views_is_a_voice_for_each(run: Command, fuse: Command) -> None:
    for view in ("panoramic", "third_person"):
        run(f"set/{view}/c1.mp4", "-m", "both", "-o", f"{view}.json")
    expected = document(fuse("panoramic.json", "third_person.json"))
    for jobs in (1, 2):
        found = document(run("--capture", "set/c1", "-m", "both", "--jobs", jobs))
        assert of(found, "c1") == of(expected, "c1")


# --- an ensemble's file ---------------------------------------------------------------------------


def test_views_and_offsets_of_an_ensembles_file(run: Command, fuse: Command) -> None:
    run("set/panoramic/c1.mp4", "-m", "pan", "-o", "p.json")
    run("set/third_person/c1.mp4", "-m", "untold", "-o", "f.json")
    Path("e.toml").write_text(
        'method = "nms"\n'
        '[[members]]\nbundle = "pan"\nsegments = "p.json"\ntemperature = 2\n'
        '[[members]]\nbundle = "untold"\nsegments = "f.json"\nview = "third_person"\nweight = 3\n'
        "temperature = 0.5\noffset_seconds = 1.25\n"
    )
    expected = document(fuse("--ensemble", "e.toml"))
    found = document(run("--capture", "set/c1", "--ensemble", "e.toml"))
    assert of(found, "c1") == of(expected, "c1")
    starts = {s["segment"][0] for s in found["results"]["c1"] if s["segment"][0] % 0.5}
    assert starts == {1.25, 2.75, 4.75}  # 0, 1.5 and 3.5 of third_person
    assert found["external_data"]["videos"]["c1"]["duration"] == pytest.approx(1.25 + 107 / 25)
    # Of captures' files the segments are moved already.
    run("--capture", "set/c1", "--ensemble", "e.toml", "-o", "c.json")
    Path("twice.toml").write_text(
        '[[members]]\nsegments = "c.json"\noffset_seconds = 1.25\n[[members]]\nsegments = "p.json"\n'
    )
    again = document(fuse("--ensemble", "twice.toml"))["results"]["c1"]
    assert {s["segment"][0] for s in again if s["segment"][0] % 0.5} >= starts


def test_one_bundle_for_two_views(run: Command) -> None:
    Path("e.toml").write_text(
        'members = [{bundle = "both", view = "panoramic"}, {bundle = "both", view = "third_person"}]'
    )
    assert (
        document(run("--capture", "set/c1", "--ensemble", "e.toml"))["results"]
        == (document(run("--capture", "set/c1", "-m", "both"))["results"])
    )
    done = run("set/panoramic/c1.mp4", "--ensemble", "e.toml")
    assert done.code == 2
    assert "the members differ in view (panoramic, third_person): give the videos of a capture" in done.err


def test_the_offsets_file_goes_before_the_members_own(run: Command) -> None:
    Path("e.toml").write_text('members = [{bundle = "pan"}, {bundle = "ego", offset_seconds = 5.0}]')
    reported = {}
    for capture, flags in (("c1", ()), ("c2", ()), ("c2", ("--offsets", "o.csv"))):
        Path("o.csv").write_text("video,offset_seconds\nbinocular/c2/clip1,1.5\n")
        done = run("--capture", f"set/{capture}", "--ensemble", "e.toml", *flags)
        reported[capture, flags] = document(done)["external_data"]["captures"][capture]
    assert reported["c1", ()] == {"panoramic/c1": 0.0}  # two clips cannot both begin there
    assert reported["c2", ()] == {"panoramic/c2": 0.0, "binocular/c2/clip1": 5.0}
    assert reported["c2", ("--offsets", "o.csv")] == {"panoramic/c2": 0.0, "binocular/c2/clip1": 1.5}


# --- files of one's own ---------------------------------------------------------------------------


def test_named_views(run: Command) -> None:
    in_layout = document(run("--capture", "set/c1", *PFE, "--offsets", "split.json"))
    named = document(
        run(
            *("--view", "panoramic=set/panoramic/c1.mp4", "--view", "third_person=set/third_person/c1.mp4@0"),
            *("--view", "binocular=set/binocular/c1/clip1.mp4@-0.7"),
            *("--view", "binocular=set/binocular/c1/clip2.mp4@2.3000004"),
            *PFE,
        )
    )
    assert of(named, "c1") == of(in_layout, "c1")
    assert named["external_data"]["captures"] == in_layout["external_data"]["captures"]


def test_views_of_any_name(run: Command) -> None:
    Path("e.toml").write_text(
        'members = [{bundle = "pan", view = "north"}, {bundle = "untold", view = "south"}]'
    )
    shutil.copy("set/third_person/c1.mp4", "b@2.mp4")
    views = ("--view", "south=b@2.mp4", "--view", "north=set/panoramic/c1.mp4@1.5")
    done = run(*views, "--ensemble", "e.toml", "--id", "hall")
    reported = document(done)["external_data"]
    assert reported["captures"] == {"hall": {"south/hall": 0.0, "north/hall": 1.5}}
    assert reported["videos"]["hall"]["members"] == [1, 2]


def test_the_media_is_the_panoramic_file(run: Command) -> None:
    done = run("--capture", "set/c1", "-m", "front", "-m", "pan", "--format", "eaf")
    assert "panoramic/c1.mp4" in done.out
    assert "third_person/c1.mp4" not in done.out


# --- bad videos -----------------------------------------------------------------------------------


def broken_set(content: bytes) -> None:
    for view, name in (("panoramic", "c1"), ("third_person", "c1"), ("panoramic", "c2")):
        Path("bad", view).mkdir(parents=True, exist_ok=True)
        shutil.copy("set/panoramic/c1.mp4", f"bad/{view}/{name}.mp4")
    Path("bad/third_person/c1.mp4").write_bytes(content)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_view_that_does_not_decode_leaves_the_denominator(run: Command, jobs: int) -> None:
    broken_set(b"no video")
    done = run("--capture", "bad", "-m", "pan", "-m", "front", "-o", "out.json", "--jobs", jobs)
    assert done.code == 1
    assert done.err.count("\n") == 2
    assert done.err.startswith("bad/third_person/c1.mp4: ")
    assert done.err.endswith("capture c2: no third_person video; left out of the fusion\n")
    found = json.loads(Path("out.json").read_text())
    alone = document(run("set/panoramic/c1.mp4", "-m", "pan"))["results"]["c1"]
    assert found["results"] == {"c1": alone, "c2": alone}
    assert run("--capture", "bad/c1", "-m", "front").code == 3


def test_a_view_that_breaks_off(run: Command) -> None:
    broken_set(b"")
    shutil.copy("set/panoramic/c1.mp4", "bad/third_person/c1.mp4")
    data = cut(write_levels(Path("whole.mkv"), [(20, 4.0), (235, 4.0)]), 0.7)
    data.rename("bad/third_person/c1.mp4")
    done = run("--capture", "bad/c1", "-m", "pan", "-m", "front")
    assert done.code == 0
    assert done.err.startswith("bad/third_person/c1.mp4: breaks off after ")
    reported = json.loads(done.out)["external_data"]["videos"]["c1"]
    assert (reported["complete"], reported["members"]) == (False, [1, 2])


# --- wrong usage ----------------------------------------------------------------------------------

P = "panoramic=set/panoramic/c1.mp4"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--capture", "set/c9", "-m", "pan"), "--capture set/c9: no such capture in set among the 3"),
        (("--capture", "nowhere", "-m", "pan"), "--capture nowhere: neither a folder with panoramic/, "),
        (("--capture", "set/panoramic", "-m", "pan"), "for all captures give set"),
        (("--capture", "set/c1", "--view", P, "-m", "pan"), "--capture beside --view"),
        (("set/panoramic/c1.mp4", "--view", P, "-m", "pan"), "which view is it? name it with --view"),
        (("--view", P, "--live", "-m", "pan"), "No such option: --view"),
        (("--view", P, "--overlay", "o.mp4", "-m", "pan"), "--overlay is for a video alone"),
        (("--view", P, "--report", "o.html", "-m", "pan"), "--report is for a video alone"),
        (("--view", P, "--clips", "c", "-m", "pan"), "--clips is for a video alone"),
        (("--view", P, "--end", 3, "-m", "pan"), "--end is for a video alone"),
        (("--view", P, "--pace", "-m", "pan"), "No such option: --pace"),
        (("set", "-m", "pan"), "would both be 'c1' in the output; run captures with --capture"),
        (("--view", f"{P}@nan", "-m", "pan"), "c1.mp4@nan: offset nan; expected seconds"),
        (("--view", "panoramic", "-m", "pan"), "--view panoramic: expected VIEW=FILE or VIEW=FILE@SECONDS"),
        (("--view", "=a.mp4", "-m", "pan"), "--view =a.mp4: expected VIEW=FILE"),
        (("--view", P, "--view", P, "-m", "pan"), "would both be panoramic/c1; a capture has one such video"),
        (("--view", "panoramc=a.mp4", "-m", "pan"), "--view panoramc: no member sees it, they see panoramic"),
        (("--view", P, "--view", "third_person=a.mp4", "-m", "pan"), "third_person: no member sees it"),
        (("--view", P, "--offsets", "o.csv", "-m", "pan"), "--offsets beside --view"),
        (("set/panoramic/c1.mp4", "--offsets", "o.csv", "-m", "pan"), "--offsets is for captures"),
        (("--capture", "set", "--id", "x", "-m", "pan"), "--id names one capture, but 3 were given"),
        (("--capture", "set", "--offsets", "o.csv", *PFE), "2: offset of 'binocular/c1/clip1' is nan"),
        (("--capture", "set", "--offsets", "p.csv", *PFE), "'binocular/c1/clp1': there is no such video"),
        (("--capture", "set", "--offsets", "q.json", *PFE), "q.json: offset of 'c1/clip1': expected bino"),
        (("--capture", "set", "--offsets", "none.json", *PFE), "none.json"),
        (("--capture", "set/c1", "--ensemble", "e.toml"), "view 'panoramc' is none of panoramic, "),
        (("--capture", "set/c1", "--ensemble", "n.toml"), "n.toml: member 1: offset_seconds nan; expected"),
        (("--capture", "set/c1", "--ensemble", "d.toml"), "offset_seconds 1 and 2 of the same videos"),
        (("--capture", "set/c1", "-m", "pan", "-o", "set/panoramic/c1.mp4"), "would replace the video"),
        (("--capture", "set", "-m", "pan", "--format", "srt"), "holds one video, but 3 were given"),
    ],
)  # fmt: skip
def test_wrong_usage(run: Command, arguments: tuple[object, ...], words: str) -> None:
    Path("o.csv").write_text("video,offset_seconds\nbinocular/c1/clip1,nan\n")
    Path("p.csv").write_text("video,offset_seconds\nbinocular/c1/clp1,1\n")
    Path("q.json").write_text('{"offsets": {"c1/clip1": 1}}')
    two = '[[members]]\nbundle = "{}"\n{}\n[[members]]\nbundle = "{}"\n{}\n'
    Path("e.toml").write_text(two.format("pan", 'view = "panoramc"', "fast", ""))
    Path("n.toml").write_text(two.format("pan", "offset_seconds = nan", "fast", ""))
    Path("d.toml").write_text(two.format("pan", "offset_seconds = 1", "fast", "offset_seconds = 2.0"))
    done = run(*arguments)
    assert (done.code, done.out) == (2, ""), done.err
    assert words in done.err
    assert done.err.count("\n") <= 2


def test_a_model_that_tells_no_view_is_taken_as_panoramic(run: Command) -> None:
    done = run("--capture", "set/c2", "-m", "untold")
    assert done.err == "untold: states no view; taken as panoramic\n"
    assert document(done)["results"] == document(run("set/panoramic/c2.mp4", "-m", "untold"))["results"]


# --- tsm-fuse -------------------------------------------------------------------------------------


def test_fusing_files_with_offsets_wants_their_view(run: Command, fuse: Command) -> None:
    run("set/panoramic", "-m", "pan", "-o", "p.json")
    run("set/binocular", "-m", "untold", "-o", "b.json")
    done = fuse("p.json", "b.json", "--offsets", "split.json")
    assert done.code == 2
    assert "b.json: its view is not known, and 'binocular/c1/clip1' has an offset" in done.err
    Path("e.toml").write_text('members = [{segments = "p.json"}, {segments = "b.json", view = "binocular"}]')
    done = fuse("--ensemble", "e.toml", "--offsets", "split.json")
    assert "b.json: 1 clip left out, as no offset is known ('c2/clip1')" in done.err
    assert list(document(done)["results"]) == ["c1", "c2"]
    Path("o.csv").write_text("video,offset_seconds\nbinocular/c9/clip1,\n")
    done = fuse("--ensemble", "e.toml", "--offsets", "o.csv")
    assert (done.code, done.out) == (2, "")
    assert "b.json: no offset of its videos is known ('c1/clip1', 'c1/clip2', 'c2/clip1'); give" in done.err


# --- real footage ---------------------------------------------------------------------------------


def test_real_captures_of_360x(run: Command, fuse: Command, shared_data: Path) -> None:
    real = shared_data / "x360"
    ids = sorted(path.stem for path in (real / "panoramic").iterdir())
    Path("o.csv").write_text("video,offset_seconds\n" + "".join(f"binocular/{i}/clip1,1.2\n" for i in ids))
    found = document(run("--capture", real, *PFE, "--offsets", "o.csv", "-q"))
    assert list(found["results"]) == ids
    assert all(reported["members"] == [1, 2, 3] for reported in found["external_data"]["videos"].values())
    for model, view in (("pan", "panoramic"), ("front", "third_person"), ("ego", "binocular")):
        assert run(real / view, "-m", model, "-o", f"{model}.json", "-q").code == 0
    expected = document(fuse("pan.json", "front.json", "ego.json", "--offsets", "o.csv"))
    assert [of(found, i) for i in ids] == [of(expected, i) for i in ids]
    assert sum(map(len, found["results"].values())) > 12
