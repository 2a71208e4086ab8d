"""Window, stride, smoothing, shortest duration and sigmoid heads: in the pipeline and through `tsm-run`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from entry import Command, command
from fakes import FREE, LEAST, member_of
from media import write_levels, write_video

from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.manifest import ModelFile, encode_manifest
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.commands import fuse as fuse_cli
from tsm_runtime.commands.run import main
from tsm_runtime.errors import UsageError
from tsm_runtime.models.member import Member, Overrides
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import Segment
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.verification.clip_sets import video_clips
from tsm_runtime.verification.compare import SegmentAgreement
from tsm_runtime.verification.verify import verify
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.reader import VideoReader

LEVELS = [(20, 1.0), (128, 0.2), (20, 0.8), (235, 0.3), (128, 1.0), (235, 1.1), (100, 0.6)]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 s of dark, grey and bright."""
    return write_levels(tmp_path_factory.mktemp("media") / "scene.mp4", LEVELS)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark and bright by turns; nothing new from 1.0 to 1.64, 2.4 to 4.2 s."""
    pts = [*range(0, 1001, 40), *range(1640, 2401, 40), *range(4200, 6001, 40)]
    levels = [20 + 215 * (time // 400 % 2) for time in pts]
    pictures = (np.full((48, 64, 3), level, np.uint8) for level in levels)
    return write_video(tmp_path_factory.mktemp("media") / "gaps.mkv", pictures, pts=pts)


# --- the pipeline ---------------------------------------------------------------------------------


def by_definition(video: Path, member: Member) -> list[tuple[str, float, float, float]]:
    """All of it in plain loops from all frames of a video at once."""
    spec, rules = member.spec, member.rules
    t, s, w = spec.interval_seconds, spec.stride_seconds, spec.window_seconds
    convert = FrameConverter(spec.size)
    with VideoReader(video) as reader:
        frames = [(f.start_seconds, f.end_seconds, convert(f.frame)) for f in reader.frames()]
    times = [start for start, _, _ in frames]
    shown_until = [*times[1:], frames[-1][1]]
    gaps = [(a, b) for a, b in zip(times, shown_until, strict=True) if b - a > t + 1e-6]

    sides: dict[int, list[int]] = {}  # number of gaps before an interval: the intervals
    rows: dict[int, npt.NDArray[np.float64]] = {}
    for k in range(int(shown_until[-1] / s + 1e-6) - round(t / s) + 1):
        if any(a < k * s - 1e-6 and k * s + t <= b + 1e-6 for a, b in gaps):
            continue
        clip = []
        for i in range(spec.num_frames):
            moment = k * s + t / 2 - w / 2 + (i + 0.5) * w / spec.num_frames
            seen = [n for n, time in enumerate(times) if time <= moment + 1e-6]
            clip.append(frames[seen[-1] if seen else 0][2])
        rows[k] = member.backend.infer(np.array([clip])).action[0].astype(float)
        sides.setdefault(sum(k * s + t > b + 1e-6 for _, b in gaps), []).append(k)

    taken: set[int] = set()
    found = []
    for ks in sides.values():
        cells: dict[int, npt.NDArray[np.float64]] = {}
        for c in range(min(ks), max(ks) + round(t / s)):
            if c not in taken:
                cells[c] = np.mean([rows[k] for k in ks if k <= c < k + round(t / s)], axis=0)
        taken |= cells.keys()
        width = max(rules.smoothing_seconds, s)
        smooth = {}
        for c in cells:
            low, high = (c + 0.5) * s - width / 2, (c + 0.5) * s + width / 2
            share = {o: max(0.0, min(high, o * s + s) - max(low, o * s)) for o in cells}
            smooth[c] = sum(share[o] * cells[o] for o in cells) / sum(share.values())
        found += runs(smooth, member, s)
    least = rules.min_duration_seconds
    return sorted(segment for segment in found if segment[2] - segment[1] >= least - 1e-6)


def runs(
    cells: dict[int, npt.NDArray[np.float64]], member: Member, s: float
) -> list[tuple[str, float, float, float]]:
    found = []
    for number, label in enumerate(member.action_labels):
        if label == "background":
            continue
        thresholds = member.rules.thresholds
        has = {
            c: row[number] >= thresholds[number] if thresholds else row.argmax() == number
            for c, row in cells.items()
        }
        for c in cells:
            if has[c] and not has.get(c - 1):
                end = c
                while has.get(end):
                    end += 1
                best = max(cells[o][number] for o in range(c, end))
                found.append((label, c * s, end * s, float(best)))
    return found


SETTINGS: dict[str, Callable[[], Member]] = {
    "plain": lambda: member_of(ClipSpec(interval_seconds=0.5, num_frames=4, size=32)),
    "stride": lambda: member_of(ClipSpec(interval_seconds=0.5, num_frames=4, size=32, stride_seconds=0.125)),
    "window": lambda: member_of(ClipSpec(interval_seconds=0.25, num_frames=4, size=16, window_seconds=0.9)),
    "smoothing": lambda: member_of(
        ClipSpec(interval_seconds=0.25, num_frames=2, size=16), smoothing_seconds=0.9
    ),
    "shortest": lambda: member_of(
        ClipSpec(interval_seconds=0.25, num_frames=2, size=16), min_duration_seconds=0.5
    ),
    "sigmoid": lambda: member_of(ClipSpec(interval_seconds=0.5, num_frames=4, size=32), thresholds=LEAST),
    "all": lambda: member_of(
        ClipSpec(interval_seconds=0.4, num_frames=3, size=16, window_seconds=0.7, stride_seconds=0.1),
        thresholds=LEAST,
        smoothing_seconds=0.35,
        min_duration_seconds=0.3,
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("media", ["video", "broken"])
def test_equals_the_definition(name: str, media: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(media)
    member = SETTINGS[name]()
    expected = by_definition(path, member)
    result = run(path, member, Options(batch_size=3))
    assert len(expected) > 1
    assert reported(result.segments) == [
        (label, pytest.approx(start), pytest.approx(end), pytest.approx(score, abs=1e-6))
        for label, start, end, score in expected
    ]
    assert result.num_intervals > 0
    assert result.scores is not None
    stride = member.spec.stride_seconds
    assert result.cell_seconds == stride
    assert result.stride_seconds == (stride if stride < member.spec.interval_seconds else 0.0)


def reported(segments: tuple[Segment, ...]) -> list[tuple[str, float, float, float]]:
    return sorted((s.label, s.start_seconds, s.end_seconds, s.score) for s in segments)


def test_one_picture_may_have_several_actions(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "v.mp4", [(20, 1.0), (128, 1.0), (235, 1.0)])
    found = reported(run(path, SETTINGS["sigmoid"]()).segments)
    assert [(label, start, end) for label, start, end, _ in found] == [
        ("bright", 1.0, 3.0),
        ("dark", 0.0, 2.0),
        ("grey", 1.0, 2.0),
    ]


@pytest.mark.parametrize("start", [0.3, 1.0, 3.3])
def test_a_part_sees_what_lies_around_it(video: Path, start: float) -> None:
    """Frames before and after the requested part exist, so windows that reach there take them."""
    member = member_of(ClipSpec(interval_seconds=0.2, num_frames=5, size=16, window_seconds=1.0))
    whole = run(video, member)
    part = run(video, member, Options(start_seconds=start, end_seconds=start + 1.25))
    assert whole.scores is not None
    assert part.scores is not None
    chosen = np.isin(whole.scores.indices, part.scores.indices)
    assert part.scores.indices.tolist() == [k for k in range(25) if start <= k * 0.2 <= start + 1.06]
    np.testing.assert_array_equal(part.scores.action, whole.scores.action[chosen])


def test_a_bad_setting_is_refused_before_anything_runs() -> None:
    spec, rules = ClipSpec(interval_seconds=0.5), SegmentRules(smoothing_seconds=1.0)
    changed = Overrides(smoothing_seconds=0, stride_seconds=0.25).apply(spec, rules)
    assert changed == (replace(spec, stride_seconds=0.25), SegmentRules())
    assert Overrides().apply(spec, rules) == (spec, rules)
    with pytest.raises(UsageError, match=r"^--window 0\.4 s: expected the interval of 0\.5 s or more"):
        Overrides(window_seconds=0.4).apply(spec, rules)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles: plain, free (sigmoid), set (every setting), slow (t = 1)."""
    pytest.importorskip("onnx")
    from tiny_bundle import tiny_model, write_tiny_bundle

    folder = tmp_path_factory.mktemp("models")
    write_tiny_bundle(folder / "plain")
    write_tiny_bundle(
        folder / "free",
        tiny_model(sigmoid=True),
        format_version=3,
        head="sigmoid",
        action_labels=list(FREE),
        thresholds=list(LEAST),
    )
    write_tiny_bundle(
        folder / "set",
        format_version=3,
        window_seconds=1.0,
        stride_seconds=0.25,
        smoothing_seconds=0.75,
        min_duration_seconds=0.6,
    )
    write_tiny_bundle(folder / "slow", interval_seconds=1.0)
    return folder


@pytest.fixture
def tsm_run(
    bundles: Path,
    tmp_path: Path,
    video: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> Command:
    """The command in a folder with the bundles and scene.mp4."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TSM_MODEL", raising=False)
    for bundle in bundles.iterdir():
        Path(bundle.name).symlink_to(bundle)
    Path("scene.mp4").symlink_to(video)
    return command("tsm-run", main, monkeypatch, capfdbinary)


@pytest.fixture
def tsm_fuse(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    return command("tsm-fuse", fuse_cli.main, monkeypatch, capfdbinary)


def results_of(text: str) -> list[tuple[str, float, float, float]]:
    return [(d["label"], *d["segment"], d["score"]) for d in json.loads(text)["results"]["scene"]]


FLAGS = ("--window", 1, "--stride", 0.25, "--smoothing", 0.75, "--min-duration", 0.6)


def test_flags_say_what_a_bundle_may_say(tsm_run: Command, video: Path) -> None:
    spec = ClipSpec(interval_seconds=0.5, num_frames=4, size=32, window_seconds=1.0, stride_seconds=0.25)
    expected = by_definition(video, member_of(spec, smoothing_seconds=0.75, min_duration_seconds=0.6))
    by_flags, by_bundle = tsm_run("scene.mp4", "-m", "plain", *FLAGS), tsm_run("scene.mp4", "-m", "set")
    assert (by_flags.code, by_flags.err) == (0, "")
    assert sorted(results_of(by_flags.out)) == [
        (label, pytest.approx(a), pytest.approx(b), pytest.approx(score, abs=1e-5))
        for label, a, b, score in expected
    ]
    assert results_of(by_flags.out) == results_of(by_bundle.out)
    reported = [json.loads(done.out)["external_data"]["options"] for done in (by_flags, by_bundle)]
    assert reported[0] == reported[1]
    assert reported[0] == {
        "start": 0.0, "end": None, "min_score": 0.0,
        "window": 1.0, "stride": 0.25, "smoothing": 0.75, "min_duration": 0.6,
    }  # fmt: skip


def test_zero_turns_off_what_the_bundle_says(tsm_run: Command) -> None:
    off = ("--window", 0, "--stride", 0, "--smoothing", 0, "--min-duration", 0)
    done, plain = tsm_run("scene.mp4", "-m", "set", *off), tsm_run("scene.mp4", "-m", "plain")
    assert (done.code, done.err) == (0, "")
    assert results_of(done.out) == results_of(plain.out)
    assert json.loads(done.out)["external_data"]["options"] == {"start": 0.0, "end": None, "min_score": 0.0}
    same = tsm_run("scene.mp4", "-m", "plain", "--window", 0.5, "--stride", 0.5)
    assert same.out == plain.out


def test_a_sigmoid_head(tsm_run: Command, video: Path) -> None:
    done = tsm_run("scene.mp4", "-m", "free")
    assert (done.code, done.err) == (0, "")
    expected = run(video, SETTINGS["sigmoid"]()).segments
    assert results_of(done.out) == [
        (s.label, s.start_seconds, s.end_seconds, pytest.approx(s.score, abs=1e-5)) for s in expected
    ]
    assert json.loads(done.out)["external_data"]["options"]["thresholds"] == list(LEAST)
    for name in ("out.srt", "out.eaf", "out.jsonl"):
        assert tsm_run("scene.mp4", "-m", "free", "-o", name) == (0, "", "")
        assert "grey" in Path(name).read_text()


def test_kaggle_wants_no_background_of_a_sigmoid_head(tsm_run: Command) -> None:
    Path("ids.json").write_text('{"dark": 1, "bright": 2, "grey": 3}')
    kaggle = ("--format", "kaggle", "--label-map", "ids.json", "-o", "kaggle.csv")
    assert tsm_run("scene.mp4", "-m", "free", *kaggle).code == 0
    Path("ids.json").write_text('{"dark": 1, "bright": 2}')
    done = tsm_run("scene.mp4", "-m", "free", *kaggle)
    assert done.code == 2
    assert "'grey'" in done.err


def test_a_sigmoid_head_beside_a_softmax_head(tsm_run: Command, tsm_fuse: Command) -> None:
    for name in ("free", "set"):
        assert tsm_run("scene.mp4", "-m", name, "-o", f"{name}.json").code == 0
    done = tsm_run("scene.mp4", "-m", "free", "-m", "set", "--report", "page.html")
    assert (done.code, done.err) == (0, "")
    fused = tsm_fuse("free.json", "set.json")
    assert results_of(done.out) == results_of(fused.out)
    assert {label for label, *_ in results_of(done.out)} == set(FREE)


def test_the_report_tells_cells(tsm_run: Command) -> None:
    assert tsm_run("scene.mp4", "-m", "set", "-o", "out.json", "--report", "page.html").code == 0
    text = Path("page.html").read_text()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert data is not None
    (shown,) = json.loads(data[1])["videos"]
    assert (shown["facts"]["interval"], shown["facts"]["stride"], shown["facts"]["intervals"]) == (
        0.5,
        0.25,
        19,
    )
    assert (shown["strip"]["interval"], shown["strip"]["runs"]) == (0.25, [[0, 20]])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-m", "plain", "--window", 0.3), "--window 0.3 s: expected the interval of 0.5 s or more"),
        (("-m", "plain", "--stride", 0.3), "--stride 0.3 s: expected the interval of 0.5 s or a whole part"),
        (("-m", "plain", "--stride", 1), "--stride 1 s: expected the interval of 0.5 s"),
        (("-m", "plain", "--stride", 0.001), "expected a window of 64 strides or less"),
        (("-m", "plain", "-m", "slow", "--window", 0.7), "expected the interval of 1 s or more (model slow)"),
        (("-m", "plain", "--smoothing", "nan"), "'--smoothing': Input should be greater than or equal to 0"),
        (("-m", "plain", "--min-duration", "inf"), "--min-duration inf: expected seconds, 0 or more"),
        (("-m", "plain", "--smoothing", -1), "--smoothing"),
    ],
)
def test_wrong_usage(tsm_run: Command, arguments: tuple[object, ...], words: str) -> None:
    done = tsm_run("scene.mp4", *arguments, "-o", "out.json")
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert done.err.startswith(("tsm-run: ", "Usage:"))
    assert not Path("out.json").exists()


@pytest.mark.parametrize("name", ["free", "set"])
def test_verify_compares_the_segments_that_the_settings_make(
    bundles: Path, tmp_path: Path, video: Path, name: str
) -> None:
    """A bundle whose second file is the first one again."""
    bundle = load_bundle(bundles / name)
    data = bundle.model_bytes("model.fp32.onnx")
    twin = ModelFile(sha256=bundle.manifest.files["model.fp32.onnx"].sha256, precision="fp16")
    files = {**bundle.manifest.files, "model.fp16.onnx": twin}
    for file in files:
        (tmp_path / file).write_bytes(data)
    manifest = msgspec.structs.replace(bundle.manifest, files=files)
    (tmp_path / "manifest.json").write_bytes(encode_manifest(manifest))
    clips = video_clips(video, manifest.clip_spec, 100)
    (comparison,) = verify(load_bundle(tmp_path), [clips], num_threads=1).comparisons
    member = replace(member_of(manifest.clip_spec), rules=manifest.segment_rules)
    if name == "free":
        member = member_of(manifest.clip_spec, thresholds=manifest.thresholds)
    count = len(run(video, member).segments)
    assert comparison.segments == SegmentAgreement(num_first=count, num_second=count, num_shared=count)
    assert count > 1
