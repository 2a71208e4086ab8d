"""Several models on one video: decoded once, and the same as fusing what each finds alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from entry import Command, Outcome, command
from fakes import ACTIONS, SCENES, BrightnessBackend, brightness_member
from media import cut, write_levels, write_video

from tsm_runtime.backends.base import Scores
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.clips.options import ClipOptions
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.commands import fuse as fuse_cli
from tsm_runtime.commands import run as cli
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.formats.read_write import read_segments
from tsm_runtime.fusion.fuse import fuse_results
from tsm_runtime.fusion.options import FusionOptions
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import Segment
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.reader import VideoReader

LEVELS = [(20, 1.0), (128, 0.5), (235, 1.5), (20, 0.5), (100, 1.0), (235, 0.6)]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5.08 s of dark, grey and bright."""
    return write_levels(tmp_path_factory.mktemp("media") / "scene.mp4", LEVELS)


@dataclass
class SharperBackend(BrightnessBackend):
    """Other scores than `BrightnessBackend`: less sure of itself, and drawn to dark."""

    seen: list[npt.NDArray[np.uint8]] = field(default_factory=list)

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        self.seen.append(frames)
        scores = super().infer(frames)
        action = np.sqrt(scores.action) * np.array([1.7, 1.0, 1.0], np.float32)
        scene = np.sqrt(scores.scene)
        return Scores(action / action.sum(axis=1, keepdims=True), scene / scene.sum(axis=1, keepdims=True))


def other_member(interval_seconds: float = 0.5, num_frames: int = 4, size: int = 32) -> Member:
    return replace(brightness_member(interval_seconds, num_frames, size), backend=SharperBackend())


def laid(member: Member, *, window: float = 0.0, stride: float = 0.0, **rules: float) -> Member:
    """A member with a window, a stride and rules of its own."""
    spec = replace(member.spec, window_seconds=window, stride_seconds=stride)
    return replace(member, spec=spec, rules=SegmentRules(**rules))


# --- the pipeline ---------------------------------------------------------------------------------

ENSEMBLES: dict[str, Callable[[], list[Member]]] = {
    "equal specs": lambda: [brightness_member(), replace(other_member(), weight=0.4)],
    "another t": lambda: [brightness_member(), other_member(0.3)],
    "another T": lambda: [replace(brightness_member(), weight=3.0), other_member(0.5, 2)],
    "another size": lambda: [brightness_member(), other_member(0.5, 4, 16)],
    "another stride": lambda: [brightness_member(), laid(other_member(), stride=0.125)],
    "another window": lambda: [laid(brightness_member(), window=2.0), other_member()],
    "all of it": lambda: [
        laid(brightness_member(), window=1.2, stride=0.25, smoothing_seconds=0.8),
        laid(other_member(0.3, 3, 16), stride=0.1, min_duration_seconds=0.35),
        replace(other_member(1.0), weight=2.0),
    ],
    "three": lambda: [brightness_member(), other_member(0.25, 3, 16), other_member(1.0)],
}


@pytest.mark.parametrize("name", ENSEMBLES)
@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(batch_size=3, fusion=FusionOptions(denominator="present", iou=0.2)),
        Options(start_seconds=0.4, end_seconds=4.1, fusion=FusionOptions(method="wbf", min_score=0.4)),
        Options(min_score=0.9, fusion=FusionOptions(method="nms", iou=0.1)),
    ],
    ids=["default", "present", "part", "min-score"],
)
def test_one_pass_is_the_fusion_of_separate_passes(video: Path, name: str, options: Options) -> None:
    members = ENSEMBLES[name]()
    alone = [run(video, member, options) for member in members]
    together = run(video, members, options)
    assert together == fuse_results(alone, [member.weight for member in members], options.fusion)
    assert together.members == tuple(alone)
    for found, expected in zip(together.members, alone, strict=True):
        assert found is not None
        assert found.scores is not None
        assert expected.scores is not None
        np.testing.assert_array_equal(found.scores.action, expected.scores.action)


def test_the_weighted_mean_by_hand(tmp_path: Path) -> None:
    """One dark second: both say dark from 0 to 1 s."""
    path = write_levels(tmp_path / "v.mp4", [(20, 1.0)])
    result = run(path, [replace(brightness_member(), weight=3.0), other_member()])
    (first,), (second,) = (own.segments for own in result.members if own)
    (fused,) = result.segments
    assert (fused.label, fused.start_seconds, fused.end_seconds) == ("dark", 0.0, 1.0)
    assert first.score != pytest.approx(second.score, abs=0.01)
    assert fused.score == pytest.approx((3 * first.score + second.score) / 4, abs=2e-6)


def test_a_list_of_one_is_the_member_alone(video: Path) -> None:
    alone = run(video, [brightness_member()])
    assert alone == run(video, brightness_member())
    assert (alone.members, alone.scores is not None) == ((), True)
    with pytest.raises(ValueError, match="no model"):
        run(video, [])


def test_a_temperature_acts_on_a_members_scores_before_fusion(video: Path) -> None:
    warm = replace(other_member(), temperature=2.0)
    result = run(video, [brightness_member(), warm], Options(fusion=FusionOptions(iou=1.0)))
    first, second = (
        {(s.label, s.start_seconds): s.score for s in own.segments} for own in result.members if own
    )
    key = ("dark", 3.0)
    p = round(second[key], 6)
    calm = 1 / (1 + ((1 - p) / p) ** 0.5)  # half the logit
    (fused,) = (s.score for s in result.segments if (s.label, s.start_seconds) == key)
    assert abs(calm - p) > 0.01
    assert fused == pytest.approx((first[key] + calm) / 2, abs=2e-6)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Times of the frames that are decoded."""
    times: list[float] = []
    original = VideoReader.frames

    def watched(self: VideoReader, start_seconds: float = 0.0) -> Iterator[Any]:
        for frame in original(self, start_seconds):
            times.append(frame.start_seconds)
            yield frame

    monkeypatch.setattr(VideoReader, "frames", watched)
    return times


def test_members_of_one_spec_share_the_very_same_arrays(video: Path, decoded: list[float]) -> None:
    members = [other_member(), other_member(), other_member(0.3)]
    run(video, members, Options(batch_size=4))
    first, second, third = (member.backend.seen for member in members)  # type: ignore[attr-defined]
    assert len(first) == 3  # 10 intervals by 4
    assert all(a is b for a, b in zip(first, second, strict=True))
    assert sum(map(len, third)) == 16  # 5.08 s
    assert len(decoded) == len(set(decoded)) == 127


def test_a_picture_is_converted_once_for_each_size(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[tuple[int, float]] = []
    original = FrameConverter.__call__

    def watched(self: FrameConverter, frame: Any) -> Any:
        converted.append((self.size, frame.pts))
        return original(self, frame)

    monkeypatch.setattr(FrameConverter, "__call__", watched)
    run(video, [brightness_member(0.5, 4, 32), other_member(0.5, 2, 32), other_member(0.25, 2, 32)])
    assert {size for size, _ in converted} == {32}
    assert len(converted) == len(set(converted))
    converted.clear()
    wide = laid(brightness_member(0.5, 4, 32), window=2.0, stride=0.125)
    run(video, [wide, other_member(0.25, 2, 32)])
    assert len(converted) == len(set(converted)) <= 127
    converted.clear()
    run(video, [brightness_member(0.5, 4, 32), other_member(0.5, 4, 16)])
    assert sorted(size for size, _ in converted) == [16] * 41 + [32] * 41


def test_batches_of_several_specs_are_those_of_each_alone(video: Path) -> None:
    specs = [brightness_member(t, n, s).spec for t, n, s in ((0.5, 4, 32), (0.3, 3, 16), (0.5, 4, 32))]
    with VideoReader(video) as reader:
        mixed = list(ClipStream(reader, specs, ClipOptions(batch_size=2)))
    for spec in specs:
        with VideoReader(video) as reader:
            alone = list(ClipStream(reader, spec, ClipOptions(batch_size=2)))
        own = [batch for batch in mixed if batch.spec == spec]
        assert [b.indices.tolist() for b in own] == [b.indices.tolist() for b in alone]
        assert all(np.array_equal(a.frames, b.frames) for a, b in zip(own, alone, strict=True))


def test_gaps_and_breaks_are_those_of_each_grid(tmp_path: Path) -> None:
    """Dark, but nothing new between 0.8 and 2.2 s and between 3.0 and 3.6 s; then the file breaks off."""
    pts = [*range(0, 801, 40), *range(2200, 3001, 40), *range(3600, 8001, 40)]
    noise = np.random.default_rng(0).integers(0, 60, (len(pts), 48, 64, 3), dtype=np.uint8)
    path = cut(write_video(tmp_path / "v.mkv", noise, pts=pts), 0.8)
    members = [brightness_member(0.5), other_member(1.0), other_member(0.25)]
    wide = laid(other_member(0.5), window=1.5, stride=0.1, smoothing_seconds=1.0)
    alone = [run(path, member) for member in members]
    assert run(path, [*members, wide]) == fuse_results([*alone, run(path, wide)])
    result = run(path, members)
    assert result == fuse_results(alone)
    assert result.members == tuple(alone)
    assert [own.gaps for own in alone] == [((0.8, 2.2), (3.0, 3.6)), ((0.8, 2.2),), ((0.8, 2.2), (3.0, 3.6))]
    assert not result.complete
    assert [line[:6] for line in result.warnings] == ["breaks", "2 gaps", "1 gap ", "2 gaps"]


def test_a_stream_for_several_specs_holds_few_clips(video: Path) -> None:
    held: list[int] = []
    with VideoReader(video) as reader:
        specs = [brightness_member(t).spec for t in (0.25, 0.5)]
        clips = ClipStream(reader, specs, ClipOptions(batch_size=2))
        for _ in clips:
            held.append(sum(len(b._ready) + len(b._filling) for b in clips.builders.values()))
    assert len(held) == 10 + 5
    assert max(held) <= 2 * 3


def test_a_cancelled_stream_ends(video: Path) -> None:
    with VideoReader(video) as reader:
        clips = ClipStream(reader, [brightness_member(t).spec for t in (0.25, 0.5)])
        batches = iter(clips)
        next(batches)
        clips.cancelled.set()
        assert len(list(batches)) <= 4
        assert clips.duration_seconds < 1.0


def test_progress_never_goes_back(video: Path) -> None:
    reported: list[float] = []
    run(video, [brightness_member(), other_member(0.3)], progress=lambda done, _: reported.append(done))
    assert reported == sorted(reported)
    assert reported[-1] == 5.0


# --- members without a voice ----------------------------------------------------------------------


def test_a_member_whose_intervals_do_not_fit_is_left_out(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "v.mp4", [(20, 0.8)])
    short, long = brightness_member(0.2), replace(other_member(1.0), name="slow")
    result = run(path, [short, long])
    alone = run(path, short)
    assert result == replace(
        fuse_results([alone, None]),
        warnings=("slow: 0.800 s long, shorter than one interval of 1 s; left out of the fusion",),
    )
    assert [round(s.score, 6) for s in alone.segments] == [s.score for s in result.segments]  # not halved
    assert result.members == (alone, None)
    unnamed = run(path, [other_member(1.0), short])
    assert unnamed.warnings[0].startswith("member 1: 0.800 s long")


def test_a_video_too_short_for_all_members(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "v.mp4", [(20, 0.4)])
    with pytest.raises(VideoError, match=r"v\.mp4: 0\.400 s long, shorter than one interval of 0\.5 s$"):
        run(path, [other_member(1.0), brightness_member(0.5)])


def test_a_weight_that_is_none(video: Path) -> None:
    with pytest.raises(UsageError, match="weight 0: expected a number above 0"):
        run(video, [brightness_member(), replace(other_member(), weight=0.0)])


# --- the command ----------------------------------------------------------------------------------


AB = ("-m", "a", "-m", "b")


@pytest.fixture
def call(
    bundles: Path,
    tmp_path: Path,
    video: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> Command:
    """`tsm-run` and `tsm-fuse` in a folder with scene.mp4, short.mp4 and the bundles a to e."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TSM_MODEL", raising=False)
    for bundle in bundles.iterdir():
        Path(bundle.name).symlink_to(bundle)
    Path("scene.mp4").symlink_to(video)
    write_levels(Path("short.mp4"), [(20, 0.72)])

    mains = {"tsm-run": cli.main, "tsm-fuse": fuse_cli.main}
    return lambda name, *arguments: command(name, mains[name], monkeypatch, capfdbinary)(*arguments)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles: a, b (less sharp), c (as b, t = 1), d (other labels), e (a label in another case)."""
    pytest.importorskip("onnx")
    from tiny_bundle import softer_model, write_tiny_bundle

    folder = tmp_path_factory.mktemp("models")
    softer = softer_model()
    write_tiny_bundle(folder / "a")
    write_tiny_bundle(folder / "b", softer)
    write_tiny_bundle(folder / "c", softer, interval_seconds=1.0)
    write_tiny_bundle(folder / "d", action_labels=["run", "jump", ACTIONS[-1]])
    write_tiny_bundle(folder / "e", action_labels=["Dark", *ACTIONS[1:]], scene_labels=list(SCENES))
    return folder


def content(text: str) -> tuple[Any, Any]:
    document = json.loads(text)
    return document["results"], document["scenes"]


@pytest.mark.parametrize(
    ("models", "flags"),
    [
        ("ab", ()),
        ("ab", ("--weights", "0.7,0.3", "--min-score", 0.6)),
        ("ac", ("--weights", "1,2", "--iou", 0.3, "--denominator", "present")),
        ("cab", ("--method", "soft-nms-linear", "--iou", 0.1, "--min-score", 0.001)),
    ],
)
def test_the_command_gives_what_tsm_fuse_makes_of_separate_files(
    call: Command, models: str, flags: tuple[object, ...]
) -> None:
    videos = ("scene.mp4", "short.mp4")
    for name in models:
        assert call("tsm-run", *videos, "-m", name, "-o", f"{name}.json").code in (0, 1)
    fused = call("tsm-fuse", *(f"{name}.json" for name in models), *flags, "-q")
    repeated = [part for name in models for part in ("--model", name)]
    done = call("tsm-run", *videos, *repeated, *flags, "-q")
    assert (done.code, fused.code) == (0, 0)
    assert content(done.out) == content(fused.out)
    assert any(content(done.out)[0].values())
    reported, expected = (json.loads(each.out)["external_data"] for each in (done, fused))
    assert reported["fusion"] == expected["fusion"]
    assert reported["videos"] == expected["videos"]  # with the members that have each video
    for own, member in zip(reported["members"], expected["members"], strict=True):
        assert own["weight"] == member["weight"]
        assert own["temperature"] == member["temperature"] == 1.0
        assert own["model"] == member["external_data"]["model"]
        assert own["options"] == member["external_data"]["options"]


def test_a_member_that_has_no_voice_is_told(call: Command) -> None:
    done = call("tsm-run", "short.mp4", "-m", "a", "-m", "c")
    assert done.code == 0
    assert done.err == (
        "short.mp4: c: 0.720 s long, shorter than one interval of 1 s; left out of the fusion\n"
    )
    assert json.loads(done.out)["external_data"]["videos"]["short"]["members"] == [1]
    assert call("tsm-run", "short.mp4", "-m", "c").code == 3


def test_a_report_shows_the_members_beside_their_fusion(call: Command) -> None:
    done = call("tsm-run", "scene.mp4", "-m", "a", "-m", "c", "--report", "page.html")
    assert (done.code, done.err) == (0, "")
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', Path("page.html").read_text(), re.S
    )
    assert found is not None
    data = json.loads(found[1])
    (shown,) = data["videos"]
    assert [member["name"] for member in shown["members"]] == ["fused", "a", "c"]
    for row, name in zip(shown["members"][1:], "ac", strict=True):
        alone = content(call("tsm-run", "scene.mp4", "-m", name).out)[0]["scene"]
        drawn = [(data["labels"][label], [s, e], score) for label, s, e, score, _ in row["segments"]]
        assert drawn == [(d["label"], d["segment"], d["score"]) for d in alone]


def test_other_formats_hold_the_fused_segments(call: Command) -> None:
    expected = read_segments_of(call("tsm-run", "scene.mp4", *AB, "-o", "out.json"), "out.json")
    assert expected
    for name in ("out.jsonl", "out.csv"):
        assert read_segments_of(call("tsm-run", "scene.mp4", *AB, "-o", name), name) == expected


def read_segments_of(done: Outcome, name: str) -> list[Segment]:
    assert done == (0, "", "")
    return read_segments(Path(name))["scene"]


# --- ensemble.toml --------------------------------------------------------------------------------


def test_an_ensembles_file(call: Command, bundles: Path) -> None:
    hashes = {name: load_bundle(bundles / name).manifest_sha256 for name in "ab"}
    Path("sub").mkdir()
    Path("sub/ensemble.toml").write_text(
        'method = "soft-nms-gaussian"\nsigma = 0.3\nmin_score = 0.05\niou = 0.4\n'
        f'[[members]]\nbundle = "../a"\nsegments = "../a.json"\nbundle_sha256 = "{hashes["a"]}"\nweight = 2\n'
        f'[[members]]\nbundle = "../b"\nsegments = "../b.json"\nbundle_sha256 = "{hashes["b"].upper()}"\n'
        "temperature = 1.5\n"
    )
    for name in "ab":
        assert call("tsm-run", "scene.mp4", "-m", name, "-o", f"{name}.json").code == 0
    fused = call("tsm-fuse", "--ensemble", "sub/ensemble.toml")
    done = call("tsm-run", "scene.mp4", "--ensemble", "sub/ensemble.toml")
    assert (done.code, fused.code, done.err) == (0, 0, "")
    assert content(done.out) == content(fused.out)
    reported = json.loads(done.out)["external_data"]
    assert reported["fusion"] == {
        "method": "soft-nms-gaussian", "iou": 0.4, "denominator": "all", "min_score": 0.05, "sigma": 0.3
    }  # fmt: skip
    assert [(m["weight"], m["temperature"]) for m in reported["members"]] == [(2.0, 1.0), (1.0, 1.5)]
    assert [m["model"]["bundle_sha256"] for m in reported["members"]] == [hashes["a"], hashes["b"]]


def test_another_bundle_than_the_file_means(call: Command) -> None:
    Path("e.toml").write_text(f'members = [{{bundle = "a"}}, {{bundle = "b", bundle_sha256 = "{64 * "0"}"}}]')
    done = call("tsm-run", "scene.mp4", "--ensemble", "e.toml", "-o", "out.json")
    assert done.code == 4
    assert re.match(r"tsm-run: b/manifest\.json: its SHA-256 [0-9a-f]{64} is not the one", done.err)
    assert done.err.count("\n") == 2
    assert not Path("out.json").exists()


# --- wrong usage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-m", "a", "--weights", "1"), "--weights is for several models: give --model twice or more"),
        (("-m", "a", "--iou", 0.5), "--iou is for several models"),
        (("-m", "a", "--denominator", "all"), "--denominator is for several models"),
        (("-m", "a", "--method", "nms"), "--method is for several models"),
        ((*AB, "--weights", "1,2,3"), "--weights 1,2,3: 3 weights for 2 members"),
        ((*AB, "--weights", "1,x"), "'x' is no number"),
        ((*AB, "--weights", "1,0"), "weight 0: expected a number above 0"),
        ((*AB, "--iou", 2), "--iou 2: expected 0 to 1"),
        (
            ("-m", "a", "-m", "./sub/../a"),
            "is given twice; to let it count for more, give it a higher weight",
        ),
        ((*AB, "-m", "d"), "d: none of its labels ('jump', 'run') is a label of another member"),
        (("-m", "a", "-m", "e"), "label 'dark' is 'Dark' in another member; run each model alone"),
        (("--ensemble", "none.toml"), "none.toml"),
        (("--ensemble", "e.toml", "-m", "a"), "--model beside --ensemble: e.toml names its bundles"),
        (("--ensemble", "e.toml", "--weights", "1,2"), "--weights beside --ensemble: e.toml says it"),
        (("--ensemble", "e.toml", "--min-score", 0), "--min-score beside --ensemble: e.toml says it"),
        (("--ensemble", "e.toml"), "e.toml: member 2 (b.json) names no bundle"),
        (("--ensemble", "twice.toml"), "is given twice; to let it count for more, give it a higher weight"),
        (("--ensemble", "one.toml"), "one.toml: one member; fusion takes two or more"),
    ],
)
def test_wrong_usage(call: Command, arguments: tuple[object, ...], words: str) -> None:
    Path("sub").mkdir()
    Path("e.toml").write_text('members = [{bundle = "a"}, {segments = "b.json"}]')
    Path("twice.toml").write_text('members = [{bundle = "a"}, {bundle = "sub/../a"}]')
    Path("one.toml").write_text('members = [{bundle = "a"}]')
    done = call("tsm-run", "scene.mp4", *arguments, "-o", "out.json")
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert done.err.startswith("tsm-run: ")
    assert done.err.count("\n") <= 2
    assert not Path("out.json").exists()


def test_kaggle_wants_ids_for_the_labels_of_all_members(call: Command, bundles: Path, tmp_path: Path) -> None:
    from tiny_bundle import write_tiny_bundle

    write_tiny_bundle(tmp_path / "f", action_labels=["dark", "dim", ACTIONS[-1]])
    Path("ids.json").write_text('{"dark": 1, "bright": 2}')
    done = call("tsm-run", "scene.mp4", "-m", "a", "-m", "f", "--format", "kaggle", "--label-map", "ids.json")
    assert done.code == 2
    assert "'dim'" in done.err
