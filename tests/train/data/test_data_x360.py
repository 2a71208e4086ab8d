"""360+x in its official layout: views, eyes, offsets, scenes, and all that can be missing or wrong."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entry import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media import plain, write_video

from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import UsageError
from tsm_runtime.results import Result
from tsm_runtime.segments.rules import SegmentRules
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.panorama import WINDOWS
from tsm_train.commands import inspect_data as inspect_cli
from tsm_train.config import load_config
from tsm_train.data.dataset import TrainingData, open_data
from tsm_train.presets import preset_names, preset_path
from tsm_train.samples.frame_store import FrameStore
from tsm_train.sections.data import DataConfig
from tsm_train.sections.training import StoreConfig

A, B, C = (f"{letter}0000000-0000-4000-8000-000000000000" for letter in "abc")
SEGMENTS = {
    A: [("walking", 0.0, 2.0), ("speaking", 1.0, 3.0)],
    B: [("walking", 1.0, 3.5)],
    C: [("speaking", 0.5, 1.5), ("alarming", 2.0, 3.0)],
}
SCENES = {A: "Kitchen", B: "Nature", C: "Kitchen"}
OFFSETS = {f"binocular/{A}/clip1": 0.5, f"binocular/{B}/clip1": -0.25, f"monocular/{A}/clip2": 2.0}


@pytest.fixture(scope="module")
def drawn_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three captures of 4 s; glasses clips of 2 s, left eye dark, right eye bright."""
    root = tmp_path_factory.mktemp("x360") / "360x_dataset_LR"
    for view in ("panoramic", "third_person", "binocular", "monocular", "TAL_annotations"):
        (root / view).mkdir(parents=True)
    for level, uuid in ((60, A), (120, B), (180, C)):
        write_video(root / "panoramic" / f"{uuid}.mp4", [plain(level)] * 40, rate=10)
        shutil.copy(root / "panoramic" / f"{uuid}.mp4", root / "third_person" / f"{uuid}.mp4")
        write_annotation(root, uuid, spelling="z" if uuid == A else "duration")
    for view in ("binocular", "monocular"):
        for uuid, dark, names in ((A, 20, ("clip1", "clip2")), (B, 24, ("clip1",))):
            (root / view / uuid).mkdir()
            for name in names:
                stereo = plain(dark, (64, 32))
                stereo[:, 32:] = 235
                write_video(root / view / uuid / f"{name}.mp4", [stereo] * 20, rate=10)
    index = [{"uuid": uuid, "category": scene, "weather": "indoor"} for uuid, scene in SCENES.items()]
    (root / "index.json").write_text(json.dumps(index))
    return root


def write_annotation(root: Path, uuid: str, spelling: str = "z") -> Path:
    times, action = ("z", "av") if spelling == "z" else ("duration", "action")
    entries = {
        f"1_{n}": {"vid": "1", times: [start, end], action: {"1": label}}
        for n, (label, start, end) in enumerate(SEGMENTS[uuid])
    }
    path = root / "TAL_annotations" / f"{uuid}.json"
    path.write_text(json.dumps({"metadata": entries}))
    return path


@pytest.fixture
def root(drawn_root: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(drawn_root, tmp_path / "360x"))


def write_split(root: Path, **changes: Any) -> Path:
    path = root.parent / "split.json"
    content = {
        "format": "tsm-tal split 1",
        "subsets": {"training": [A, C], "validation": [B]},
        "offsets": OFFSETS,
        **changes,
    }
    path.write_text(json.dumps(content))
    return path


def opened(root: Path, *views: str, split: bool = True, **more: Any) -> TrainingData:
    data = DataConfig(
        root=str(root),
        views=views or ("panoramic",),  # type: ignore[arg-type]
        split=str(write_split(root)) if split else "",
        **more,
    )
    return open_data(data, 0.5)


def messages(data: TrainingData, kind: str) -> list[str]:
    return [problem.message for problem in data.problems.found if problem.kind == kind]


def spans(video: Any) -> list[tuple[str, float, float]]:
    return [(s.label, s.start_seconds, s.end_seconds) for s in video.segments]


def test_the_panoramic_view(drawn_root: Path, tmp_path: Path) -> None:
    data = opened(Path(shutil.copytree(drawn_root, tmp_path / "r")))
    assert data.problems.errors == []
    assert [p.message.split(": ")[1] for p in data.problems.warnings] == [
        "scene 'Nature' is in validation and not in training"
    ]
    assert [(v.video_id, v.capture, v.view, v.crop, v.scene) for v in data.training] == [
        (f"panoramic/{A}", A, "panoramic", "", "Kitchen"),
        (f"panoramic/{C}", C, "panoramic", "", "Kitchen"),
    ]
    assert [v.capture for v in data.validation] == [B]
    assert spans(data.training[0]) == SEGMENTS[A]
    assert (data.actions, data.scenes) == (("alarming", "speaking", "walking"), ("Kitchen",))
    assert data.config.format == "x360"
    assert [v.duration_seconds for v in data.videos] == pytest.approx([4.0, 4.0, 4.0])


def test_several_views_of_a_capture_are_in_one_subset(root: Path) -> None:
    data = opened(root, "panoramic", "third_person", "binocular", eyes="both")
    assert {v.capture for v in data.training} & {v.capture for v in data.validation} == set()
    assert sorted((v.view, v.crop) for v in data.training if v.capture == A) == [
        ("binocular", "left"),
        ("binocular", "right"),
        ("panoramic", ""),
        ("third_person", ""),
    ]
    assert len({v.video_id for v in data.videos}) == len(data.videos)


@pytest.mark.parametrize(
    ("eyes", "crops"), [("left", ["left"]), ("right", ["right"]), ("both", ["left", "right"])]
)
def test_eyes(root: Path, eyes: str, crops: list[str]) -> None:
    data = opened(root, "binocular", eyes=eyes)
    first = [v for v in data.videos if v.capture == A]
    assert [v.crop for v in first] == crops
    assert [v.video_id for v in first] == [f"binocular/{A}/clip1@{crop}" for crop in crops]
    assert data.config.crop == crops[0]
    for video in first:
        stored = FrameStore(root / "cache", 32, StoreConfig()).add(video.path, video.crop)
        assert abs(int(stored.read(np.array([0])).mean()) - (20 if video.crop == "left" else 235)) < 8


def test_stored_frames_are_those_that_the_runtime_shows(root: Path) -> None:
    from tsm_runtime.video.reader import VideoReader

    path = root / "binocular" / A / "clip1.mp4"
    for crop in ("", "left", "right"):
        video = FrameStore(root / "cache", 24, StoreConfig()).add(path, crop)  # type: ignore[arg-type]
        convert = FrameConverter(24, crop)  # type: ignore[arg-type]
        with VideoReader(path) as reader:
            frames = video.read(np.arange(len(video.times)))
            for timed, stored in zip(reader.frames(), frames, strict=True):
                assert np.array_equal(convert(timed.frame), stored)


def test_an_offset_moves_and_cuts_the_segments(root: Path) -> None:
    data = opened(root, "binocular", "monocular")
    by_id = {v.video_id: v for v in data.videos}
    assert {v.video_id: v.offset_seconds for v in data.videos} == {
        f"binocular/{A}/clip1@left": 0.5,
        f"binocular/{B}/clip1@left": -0.25,
        f"monocular/{A}/clip2": 2.0,
    }
    # The clip shows 0.5 to 2.5 s of walking [0, 2] and speaking [1, 3].
    assert spans(by_id[f"binocular/{A}/clip1@left"]) == [("walking", 0.0, 1.5), ("speaking", 0.5, 2.0)]
    assert spans(by_id[f"binocular/{B}/clip1@left"]) == [("walking", 1.25, 2.0)]
    assert spans(by_id[f"monocular/{A}/clip2"]) == [("speaking", 0.0, 1.0)]  # walking is over


def test_a_clip_without_offset_is_left_out_and_reported(root: Path) -> None:
    data = opened(root, "binocular")
    (message,) = messages(data, "no-offset")
    assert message.startswith(f"{root}/binocular/{A}/clip2.mp4: ")
    assert message.endswith(f'"offsets": {{"binocular/{A}/clip2": ...}}')
    everything = open_data(DataConfig(root=str(root), views=("monocular",)), 0.5)
    assert len(messages(everything, "no-offset")) == 3
    assert everything.videos == ()


def test_no_split_is_an_error_that_says_how_to_make_one(root: Path) -> None:
    data = opened(root, split=False)
    errors = {p.kind: p.message for p in data.problems.errors}
    assert set(errors) == {"no-subset"}
    assert "tsm-inspect CONFIG --write-split split.json" in errors["no-subset"]


def test_what_is_missing_is_reported_and_left_out(root: Path) -> None:
    (root / "third_person" / f"{C}.mp4").unlink()
    (root / "TAL_annotations" / f"{B}.json").unlink()
    split = write_split(root, subsets={"training": [A], "validation": [C]}, offsets={})
    data = open_data(DataConfig(root=str(root), views=("panoramic", "third_person"), split=str(split)), 0.5)
    assert messages(data, "missing-view") == [f"{root}/third_person: no video of capture {C}; left out"]
    assert [m.split(": ")[1] for m in messages(data, "not-annotated")] == [
        f"no TAL_annotations/{B}.json; left out",
        f"no TAL_annotations/{B}.json; left out",
    ]
    assert {v.video_id for v in data.videos} == {f"panoramic/{A}", f"third_person/{A}", f"panoramic/{C}"}


def test_a_view_that_is_not_there_at_all(root: Path) -> None:
    shutil.rmtree(root / "third_person")
    data = open_data(DataConfig(root=str(root), views=("third_person",)), 0.5)
    assert messages(data, "missing-video") == [
        f"{root}/third_person: no video of this view; expected <uuid>.mp4 in this folder"
    ]


def test_entries_that_are_no_segment_are_left_out_with_a_warning(root: Path) -> None:
    """As the data set's own kit does; the other entries of the file are used."""
    path = root / "TAL_annotations" / f"{A}.json"
    content = json.loads(path.read_text())
    content["metadata"] |= {
        "1_x": {"duration": [3, 1], "action": {"1": "walking"}},
        "1_y": {"z": [1, 2], "av": {}},
    }
    path.write_text(json.dumps(content))
    data = opened(root)
    assert spans(data.training[0]) == SEGMENTS[A]
    assert [m.split(": ")[1] for m in messages(data, "left-out-entry")] == ["entry '1_x'", "entry '1_y'"]
    assert data.problems.errors == []


def test_bad_utf_8_and_broken_files(root: Path) -> None:
    path = root / "TAL_annotations" / f"{A}.json"
    path.write_bytes(path.read_bytes().replace(b"speaking", b"spe\xffking"))
    data = opened(root)
    assert messages(data, "not-utf-8")[0].startswith(f"{path}: not UTF-8")
    assert {s.label for s in data.training[0].segments} == {"walking", "spe\ufffdking"}
    path.write_text("{")
    split = write_split(root, subsets={"training": [C], "validation": [B]}, offsets={})
    broken = open_data(DataConfig(root=str(root), split=str(split)), 0.5)
    assert messages(broken, "annotation")[0].startswith(f"{path}: not JSON")
    with pytest.raises(UsageError, match="not JSON"):
        broken.problems.raise_errors()


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        ({}, "annotation", 'expected a list of {"uuid": ..., "category": ...}'),
        ([{"uuid": A}], "annotation", f"entry 1: uuid '{A}' has no category"),
        ([{"category": "Kitchen"}], "annotation", "entry 1: Object missing required field `uuid`"),
        ([3], "annotation", "entry 1: Expected `object`, got `int`"),
        (
            [{"uuid": A, "category": "Kitchen"}, {"uuid": A, "category": "Nature"}],
            "annotation",
            f"entry 2: uuid '{A}' has the category 'Kitchen' already",
        ),
        ([{"uuid": A, "category": "Kitchn"}], "unknown-scene", "'Kitchn' is not one of the 28 scenes"),
    ],
)
def test_a_wrong_index(root: Path, content: Any, kind: str, said: str) -> None:
    (root / "index.json").write_text(json.dumps(content))
    (message,) = messages(opened(root), kind)
    assert message.startswith(str(root / "index.json"))
    assert said in message
    if kind == "unknown-scene":
        assert message.endswith("the nearest is 'Kitchen'")


def test_without_index_no_scene_is_known(root: Path) -> None:
    (root / "index.json").unlink()
    data = opened(root)
    assert data.scenes == ()
    assert messages(data, "scene") == [f"{root}/index.json: there is no such file, so no scene is known"]


def test_scenes_of_a_csv_go_before_the_index(root: Path) -> None:
    table = root.parent / "scenes.csv"
    table.write_text(f"video,scene\n{A},Workspaces\n")
    data = opened(root, scenes=str(table))
    assert data.scenes == ("Kitchen", "Workspaces")


@pytest.mark.parametrize("below", ["", "extra"])
def test_the_wrong_folder_is_reported(root: Path, below: str) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    root.rename(outside / "360x_dataset_LR")
    with pytest.raises(UsageError) as caught:
        open_data(DataConfig(root=str(outside), format="x360" if below else "auto"), 0.5)
    assert f"is it {outside}/360x_dataset_LR?" in str(caught.value)
    with pytest.raises(UsageError, match="nowhere"):
        open_data(DataConfig(root=str(outside / "nowhere")), 0.5)


def test_the_same_video_under_two_names(root: Path) -> None:
    shutil.copy(root / "panoramic" / f"{A}.mp4", root / "panoramic" / f"{B}.mp4")
    (message,) = messages(opened(root), "same-video-twice")
    assert f"{B}.mp4 (validation) holds the same video as {root}/panoramic/{A}.mp4 (training)" in message


def test_an_offset_of_a_clip_that_is_not_there(root: Path) -> None:
    split = write_split(root, offsets={f"binocular/{A}/clip9": 1.0})
    data = DataConfig(root=str(root), views=("binocular",), split=str(split))
    with pytest.raises(UsageError, match=rf"binocular/{A}/clip9': there is no such clip .* did you mean '"):
        open_data(data, 0.5)
    open_data(DataConfig(root=str(root), split=str(split)), 0.5)  # another view does not mind


def test_a_split_of_glasses_alone_is_a_form_to_be_filled_in(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    tsm_inspect = command("tsm-inspect", inspect_cli.main, monkeypatch, capfdbinary)
    path, split = root.parent / "run.toml", root.parent / "form.json"
    path.write_text(f'name = "form"\n[data]\nroot = "{root}"\nviews = ["binocular"]\n')
    code, _, err = tsm_inspect(path, "--write-split", split, "--validation", "0.34")
    assert code == 2
    assert err.splitlines()[0].startswith(f"wrote {split}")
    assert err.endswith(f"2 problems would spoil training; fill in the offsets in {split}\n")
    form = json.loads(split.read_text())
    clips = [f"binocular/{A}/clip1", f"binocular/{A}/clip2", f"binocular/{B}/clip1"]
    assert form["offsets"] == dict.fromkeys(clips)
    assert sorted(name for names in form["subsets"].values() for name in names) == [A, B, C]
    form["offsets"] = dict(zip(clips, (0.5, 2.0, 1.0), strict=True))
    split.write_text(json.dumps(form))
    accept = 'data.accept=["only-in-validation"]'
    code, out, _ = tsm_inspect(path, "--set", f"data.split={split}", "--set", accept, "--json")
    assert code == 0
    assert sum(subset["videos"] for subset in json.loads(out)["subsets"]) == 3
    code, _, _ = tsm_inspect(path, "--write-split", split, "--force", "--validation", "0.34", "--set", accept)
    assert json.loads(split.read_text())["offsets"] == form["offsets"]


def test_training_on_both_eyes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tsm_train.config import load_config
    from tsm_train.training import module as training_run
    from tsm_train.training import train as training
    from tsm_train.training.checkpoint import load_checkpoint
    from tsm_train.training.validation import predict

    shown: list[tuple[str, str]] = []

    def watched(
        model: Any, video: Path, video_id: str, labels: Any, spec: ClipSpec, rules: SegmentRules, rate: float
    ) -> Result:
        shown.append((video_id, spec.crop))
        return predict(model, video, video_id, labels, spec, rules, rate)

    monkeypatch.setattr(training_run, "predict", watched)
    write_split(root)
    path = root.parent / "run.toml"
    path.write_text(
        f"""
        name = "eyes"
        data.root = "{root}"
        data.views = ["binocular"]
        data.eyes = "both"
        data.split = "split.json"
        data.cache = "cache"
        model = {{backbone = "mobilenet_v2", width_mult = 0.25}}
        clip = {{size = 32, num_frames = 2}}
        train = {{epochs = 1, batch_size = 4}}
        """
    )
    training.train(load_config(path), root.parent / "run", device="cpu", show_progress=False)
    assert shown == [(f"binocular/{B}/clip1@left", "left"), (f"binocular/{B}/clip1@right", "right")]
    checkpoint = load_checkpoint(root.parent / "run" / "last.safetensors")
    assert checkpoint.config.data.format == "x360"
    assert checkpoint.config.clip_spec.crop == "left"
    assert checkpoint.labels.actions == ("speaking", "walking", "background")
    assert checkpoint.labels.scenes == ("Kitchen",)


anything = st.recursive(
    st.none() | st.integers() | st.floats() | st.sampled_from([True, A, "walk", "Kitchen", "", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "z", "duration", "av", "action", "1", "uuid", "category"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(index=anything | st.lists(anything, max_size=3), entry=anything)
def test_any_json_is_opened_or_refused(root: Path, index: Any, entry: Any) -> None:
    (root / "index.json").write_text(json.dumps(index))
    path = root / "TAL_annotations" / f"{A}.json"
    path.write_text(json.dumps({"metadata": {"1_x": entry}} if isinstance(entry, dict) else entry))
    try:
        data = opened(root)
    except UsageError as error:
        message = str(error)
        assert str(root.parent) in message
    else:
        assert [video.capture for video in data.validation] == [B]
        assert all(str(root.parent) in problem.message for problem in data.problems.found)


def real_root(shared_data: Path, root: Path, *views: str) -> list[str]:
    """Put twelve real captures under the names of twelve annotated ones, which go on for minutes longer."""
    annotations = sorted((shared_data / "x360_annotations" / "TAL_annotations").glob("*.json"))
    index = json.loads((shared_data / "x360" / "index.json").read_text())
    (root / "TAL_annotations").mkdir()
    for path in annotations:
        (root / "TAL_annotations" / path.name).symlink_to(path)
    for view in views:
        (root / view).mkdir()
        for path, entry in zip(annotations, index, strict=False):
            source = shared_data / "x360" / view / entry["uuid"]
            target = root / view / path.stem
            if view == "binocular":
                target.symlink_to(source)
            else:
                target.with_suffix(".mp4").symlink_to(source.with_suffix(".mp4"))
    for path, entry in zip(annotations, index, strict=False):
        entry["uuid"] = path.stem
    (root / "index.json").write_text(json.dumps(index))
    return [entry["uuid"] for entry in index]


@pytest.mark.parametrize("view", ["panoramic", "third_person", "binocular"])
def test_real_footage_with_real_annotations(shared_data: Path, tmp_path: Path, view: str) -> None:
    names = real_root(shared_data, tmp_path, view)
    clips = {f"binocular/{name}/clip1": 0.0 for name in names}
    split = write_split(
        tmp_path / "x", subsets={"training": names[:9], "validation": names[9:]}, offsets=clips
    )
    data = open_data(DataConfig(root=str(tmp_path), views=(view,), split=str(split)), 0.5)  # type: ignore[arg-type]
    assert len(data.videos) == 12
    assert len(messages(data, "missing-view")) == 8
    assert len(data.scenes) == 9
    assert (messages(data, "segment-beyond-end") != []) == (view != "binocular")
    for video in data.videos:
        assert video.duration_seconds is not None
        assert all(s.end_seconds <= video.duration_seconds for s in video.segments)
        assert video.crop == ("left" if view == "binocular" else "")


def test_shipped_configurations_open_real_footage(
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    captures = real_root(shared_data, tmp_path, "panoramic", "third_person", "binocular")
    inspect = command("tsm-inspect", inspect_cli.main, monkeypatch, capfdbinary)
    # The annotations are those of longer videos.
    accepted = 'data.accept=["segment-beyond-end", "only-in-validation"]'
    words = ["--data", tmp_path, "--json", "--set", accepted]
    names = [n for n in preset_names() if n.startswith("x360")]
    split = tmp_path / "split.json"
    assert inspect(names[0], *words) == (
        2,
        "",
        f"tsm-inspect: {split}: there is no such file; tsm-inspect --write-split {split} makes it\n",
    )
    code, _, err = inspect(names[0], *words, "--write-split", split)
    assert (code, err) == (0, f"wrote {split}\n")
    code, out, err = inspect(names[0], *words)
    assert (code, err) == (0, "")
    subsets = {subset["subset"]: subset["videos"] for subset in json.loads(out)["subsets"]}
    assert sum(subsets.values()) == len(captures) == 12
    assert subsets["validation"] > 0
    for name in names:
        config = load_config(preset_path(name), [accepted], root=tmp_path)
        data = open_data(config.data, config.clip.interval_seconds, projection=config.clip.projection)
        data.problems.raise_errors()
        seen = Counter((video.view, video.crop) for video in data.videos)
        assert sorted({video.capture for video in data.videos}) == captures
        windows = WINDOWS if config.clip.projection else ("",)
        others = {("third_person", ""): 12} if name.endswith("-views") else {}
        assert seen == {("panoramic", window): 12 for window in windows} | others
