"""`tsm-inspect` through its entry point: what it counts, what it refuses, the splits it writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from entry import Command, command
from hypothesis import given
from hypothesis import strategies as st
from media import cut, plain, write_video

from tsm_runtime.errors import UsageError
from tsm_train.commands import inspect_data as inspect_cli
from tsm_train.data.dataset import open_data
from tsm_train.data.inspection import inspect_data
from tsm_train.data.lengths import look_up_length
from tsm_train.data.problems import KINDS
from tsm_train.sections.data import DataConfig

CONFIG = 'name = "own"\n[data]\nroot = "data"\n[clip]\ninterval_seconds = 0.5\n'
SECONDS = {"a1": 4.0, "a2": 4.0, "b1": 3.0, "b2": 3.2}


@pytest.fixture
def inspect(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    return command("tsm-inspect", inspect_cli.main, monkeypatch, capfdbinary)


@pytest.fixture(scope="module")
def drawn_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspected")
    for n, (name, seconds) in enumerate(SECONDS.items()):
        write_video(folder / f"{name}.mp4", [plain(40 + 30 * n)] * round(10 * seconds), rate=10)
    return folder


def database() -> dict[str, Any]:
    """Two labels that overlap in a1; a2 without actions."""

    def annotations(*entries: tuple[str, float, float]) -> list[dict[str, Any]]:
        return [{"label": label, "segment": [start, end]} for label, start, end in entries]

    return {
        "a1": {
            "subset": "training",
            "scene": "Kitchen",
            "annotations": annotations(("walk", 0.0, 2.0), ("wave", 1.0, 1.5), ("walk", 3.0, 3.5)),
        },
        "a2": {"subset": "training", "scene": "Nature", "annotations": []},
        "b1": {"subset": "validation", "scene": "Kitchen", "annotations": annotations(("walk", 0.5, 1.5))},
        "b2": {"subset": "test", "annotations": annotations(("wave", 0.0, 3.2))},
    }


@pytest.fixture
def folder(drawn_videos: Path, tmp_path: Path) -> Path:
    (tmp_path / "own.toml").write_text(CONFIG)
    (tmp_path / "data").mkdir()
    shutil.copytree(drawn_videos, tmp_path / "data" / "videos")
    write(tmp_path, database())
    return tmp_path


def write(folder: Path, content: dict[str, Any]) -> None:
    (folder / "data" / "ground_truth.json").write_text(json.dumps({"database": content}))


def spoil(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = database()
    change(content)
    write(folder, content)


def kinds(report: dict[str, Any], severity: str) -> list[str]:
    return [problem["kind"] for problem in report["problems"] if problem["severity"] == severity]


# --- counts ---------------------------------------------------------------------------------------


def test_what_is_counted(folder: Path, inspect: Command) -> None:
    code, out, err = inspect(folder / "own.toml", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["format"] == "activitynet"
    assert (report["actions"], report["scenes"]) == (["walk", "wave"], ["Kitchen", "Nature"])
    training, validation, test = report["subsets"]
    assert [s["subset"] for s in report["subsets"]] == ["training", "validation", "test"]
    assert (training["videos"], training["seconds"], training["instances"]) == (2, pytest.approx(8.0), 3)
    assert (training["intervals"], training["background_intervals"]) == (16, 11)
    assert training["labelled_seconds"] == pytest.approx(2.5)
    assert training["overlap_seconds"] == pytest.approx(0.5)
    assert training["overlaps"] == [{"labels": ["walk", "wave"], "seconds": pytest.approx(0.5)}]
    walk, wave = training["classes"]
    # [1.0, 1.5) is covered by both: the one label is that of the shorter instance.
    assert (walk["instances"], walk["videos"], walk["intervals"], walk["covered_intervals"]) == (2, 1, 4, 5)
    assert (wave["instances"], wave["videos"], wave["intervals"], wave["covered_intervals"]) == (1, 1, 1, 1)
    assert walk["seconds"] == pytest.approx(2.5)
    assert {s["scene"]: s["seconds"] for s in training["scenes"]} == pytest.approx(
        {"Kitchen": 4, "Nature": 4}
    )
    assert (validation["instances"], validation["intervals"]) == (1, 6)
    assert test["scenes"][0]["scene"] is None
    assert test["lengths_from"] == {"frames": 1}  # its action goes on to the end: the frames were counted
    assert kinds(report, "error") == []


def test_the_same_for_a_person(folder: Path, inspect: Command) -> None:
    code, out, err = inspect(folder / "own.toml")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert ["training", "2", "2", "8.0", "3", "2.5", "0.5", "16", "11"] in rows
    assert ["walk", "1", "2", "2.5", "4", "5"] in rows
    assert ["training", "Kitchen", "1", "1", "4.0", "3", "8"] in rows
    assert rows[-1] == ["0", "errors,", "0", "warnings"]
    written = folder / "report.txt"
    code, nothing, err = inspect(folder / "own.toml", "--output", written)
    assert (code, nothing, err) == (0, "", "")
    assert written.read_text() == out


def test_intervals_are_those_that_training_uses(folder: Path) -> None:
    from tsm_train.config import load_config
    from tsm_train.samples.clips import ClipDataset, Labels
    from tsm_train.samples.frame_store import FrameStore
    from tsm_train.sections.training import AugmentConfig

    still = ["augment.time_jitter=0", "augment.flip=0", "augment.crop_scale=1", "augment.color=0"]
    config = load_config(folder / "own.toml", [*still, "clip.size=32", "clip.num_frames=2"])
    assert config.augment == AugmentConfig(flip=0, crop_scale=1, color=0, time_jitter=0)
    data = open_data(config.data, 0.5)
    labels = Labels((*data.actions, "background"), data.scenes)
    store = FrameStore(folder / "cache", 36, config.store)
    videos = [(video, store.add(video.path)) for video in data.training]
    dataset = ClipDataset(videos, labels, config)
    given_labels = [labels.actions[dataset[0, index][1]] for index in range(len(dataset))]
    counted = inspect_data(data, 0.5).subsets[0]
    assert {entry.label: entry.intervals for entry in counted.classes} == {
        label: given_labels.count(label) for label in data.actions
    }
    assert counted.background_intervals == given_labels.count("background")


# --- what spoils training -------------------------------------------------------------------------


def moved(start: float, end: float) -> Callable[[dict[str, Any]], None]:
    """The first action is at another time."""
    return lambda content: content["a1"]["annotations"][0].update(segment=[start, end])


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (moved(2, 1), "annotation", "video 'a1', entry 1: "),
        (
            moved(5, 6),
            "segment-beyond-end",
            "'walk' [5, 6] starts",
        ),
        (
            moved(3, 5),
            "segment-beyond-end",
            "'walk' [3, 5] ends",
        ),
        (
            lambda db: db["b1"].update(annotations=[]),
            "no-instance",
            "subset 'validation': no action in its 1 video",
        ),
        (
            lambda db: db["b1"].update(subset="val"),
            "no-subset",
            "no video of subset 'validation'; subsets in the",
        ),
        (
            lambda db: db["b1"]["annotations"][0].update(label="wafe"),
            "only-in-validation",
            "'wafe' is in validation and not in training",
        ),
        (lambda db: db.update(zz=db["a2"]), "missing-video", "zz.*: annotated, but there is no such video"),
    ],
)
def test_errors(folder: Path, inspect: Command, change: Any, kind: str, said: str) -> None:
    spoil(folder, change)
    code, out, err = inspect(folder / "own.toml", "--json")
    assert code == 2
    assert "would spoil training" in err
    problems = json.loads(out)["problems"]
    assert [(p["severity"], p["kind"]) for p in problems] == [("error", kind)]
    assert said in problems[0]["message"]
    assert str(folder / "data") in problems[0]["message"]


def test_an_accepted_error_is_a_warning(folder: Path, inspect: Command) -> None:
    spoil(folder, moved(3, 5))
    code, out, _ = inspect(folder / "own.toml", "--json", "--set", 'data.accept=["segment-beyond-end"]')
    assert code == 0
    assert kinds(json.loads(out), "warning") == ["segment-beyond-end"]
    data = open_data(DataConfig(root=str(folder / "data"), accept=("segment-beyond-end",)), 0.5)
    assert [s.end_seconds for s in data.training[0].segments] == pytest.approx([4.0, 1.5, 3.5])
    code, _, err = inspect(folder / "own.toml", "--set", 'data.accept=["segment-beyond"]')
    assert (code, "did you mean 'segment-beyond-end'?" in err) == (2, True)


def test_recordings_that_several_videos_show(folder: Path, inspect: Command) -> None:
    """a1 and a2 are views of a; b1 (validation) and b2 (test) of b."""
    code, out, _ = inspect(folder / "own.toml", "--json", "--set", "data.capture_pattern=^(.)")
    assert code == 2
    (problem,) = json.loads(out)["problems"]
    assert problem["kind"] == "capture-in-two-subsets"
    assert "capture 'b' is in 'test' and 'validation'" in problem["message"]
    code, _, err = inspect(folder / "own.toml", "--set", "data.capture_pattern=^x(.)")
    assert (code, "finds no recording in it" in err) == (2, True)


def test_training_and_validation_of_one_name(folder: Path, inspect: Command) -> None:
    code, out, _ = inspect(folder / "own.toml", "--json", "--set", "data.validation_subset=training")
    assert (code, kinds(json.loads(out), "error")) == (2, ["capture-in-two-subsets"])


# --- warnings -------------------------------------------------------------------------------------


def test_a_video_that_does_not_decode_is_named_skipped_and_counted(folder: Path, inspect: Command) -> None:
    broken = folder / "data" / "videos" / "a2.mp4"
    broken.write_bytes(b"no video at all")
    code, out, _ = inspect(folder / "own.toml", "--json")
    report = json.loads(out)
    assert (code, report["unreadable_videos"]) == (0, {"training": 1})
    assert report["subsets"][0]["videos"] == 1
    (problem,) = report["problems"]
    assert problem["message"].startswith(f"{broken}: ")
    assert problem["message"].endswith("; skipped")


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda db: db["a1"].update(duration=9.0), "duration", "duration 9 s, but "),
        (lambda db: db.pop("b2"), "not-annotated", "b2.mp4: not annotated; left out"),
        (
            lambda db: db["b1"].update(scene="Campus"),
            "scene",
            "'Campus' is in validation and not in training",
        ),
        (lambda db: db["a2"].pop("scene"), "scene", "no scene is known of 1 capture: 'a2'"),
        (
            lambda db: db["a2"].update(annotations=[{"label": "Walk ", "segment": [0, 1]}]),
            "similar-labels",
            "'Walk ', 'walk': one label or several?",
        ),
        (
            lambda db: db["a1"]["annotations"].append(db["a1"]["annotations"][0]),
            "same-instance-twice",
            "'walk' [0, 2] is there 2 times",
        ),
        (
            lambda db: db["a2"].update(annotations=[{"label": "blink", "segment": [0, 0.2]}]),
            "never-an-interval",
            "no training interval of 0.5 s has the label 'blink'",
        ),
    ],
)
def test_warnings(folder: Path, inspect: Command, change: Any, kind: str, said: str) -> None:
    spoil(folder, change)
    code, out, err = inspect(folder / "own.toml", "--json")
    assert (code, err) == (0, "")
    (problem,) = json.loads(out)["problems"]
    assert (problem["severity"], problem["kind"]) == ("warning", kind)
    assert said in problem["message"]


def test_every_kind_is_explained() -> None:
    assert all(text and not text.endswith(".") for text in KINDS.values())


# --- labels ---------------------------------------------------------------------------------------


def labels_of(folder: Path, **more: Any) -> tuple[tuple[str, ...], list[str]]:
    data = open_data(DataConfig(root=str(folder / "data"), **more), 0.5)
    return data.actions, [f"{p.kind}: {p.message}" for p in data.problems.found]


def test_labels_are_renamed_merged_dropped_and_ordered(folder: Path) -> None:
    spoil(folder, lambda db: db["a2"].update(annotations=[{"label": "stroll", "segment": [0, 1]}]))
    assert labels_of(folder) == (("stroll", "walk", "wave"), [])
    assert labels_of(folder, label_map={"stroll": "walk"}) == (("walk", "wave"), [])
    assert labels_of(folder, label_map={"wave": ""}) == (
        ("stroll", "walk"),
        ["dropped-label: data.label_map: left out, with their instances: 'wave' (2)"],
    )
    assert labels_of(folder, labels=("wave", "walk"), label_map={"stroll": "wave"}) == (("wave", "walk"), [])
    assert labels_of(folder, labels=("walk",)) == (
        ("walk",),
        ["dropped-label: data.labels: left out, with their instances: 'stroll' (1), 'wave' (2)"],
    )


def test_labels_that_are_not_there(folder: Path) -> None:
    _, problems = labels_of(folder, labels=("walk", "weve"))
    assert "label-not-found: data.labels: no instance is labelled 'weve'; did you mean 'wave'?" in problems
    _, problems = labels_of(folder, label_map={"zzz": "walk"})
    assert problems == ["label-not-found: data.label_map: no instance is labelled 'zzz'"]
    with pytest.raises(UsageError, match="names 'background', which is reserved"):
        labels_of(folder, label_map={"walk": "background"})


# --- lengths --------------------------------------------------------------------------------------


def test_the_container_is_believed_where_nothing_speaks_against_it(drawn_videos: Path) -> None:
    path = drawn_videos / "a1.mp4"
    assert look_up_length(path, last_end_seconds=3.0).source == "container"
    assert look_up_length(path, last_end_seconds=3.0).seconds == pytest.approx(4.0)
    for doubt in ({"last_end_seconds": 3.9}, {"declared_seconds": 9.0}, {"exact": True}):
        found = look_up_length(path, **doubt)  # type: ignore[arg-type]
        assert (found.source, found.seconds) == ("frames", pytest.approx(4.0))


def test_other_containers_are_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.ts", [plain(90)] * 25, rate=10)
    found = look_up_length(path)
    assert (found.source, found.seconds) == ("frames", pytest.approx(2.5, abs=0.11))


def test_a_video_that_breaks_off_is_reported(folder: Path, inspect: Command) -> None:
    path = folder / "data" / "videos" / "a2.mp4"
    pictures = [plain((7 * n) % 250) for n in range(40)]
    cut(write_video(path, pictures, rate=10, container_options={"movflags": "faststart"}), 0.6)
    code, out, _ = inspect(folder / "own.toml", "--json", "--exact")
    (problem,) = json.loads(out)["problems"]
    assert (code, problem["kind"]) == (0, "breaks-off")
    assert problem["message"].startswith(f"{path}: breaks off after ")
    assert json.loads(out)["subsets"][0]["lengths_from"] == {"frames": 2}


# --- splits ---------------------------------------------------------------------------------------


@pytest.fixture
def many(drawn_videos: Path, tmp_path: Path) -> Path:
    """Ten videos as a CSV without subsets, three scenes."""
    (tmp_path / "own.toml").write_text(CONFIG)
    videos = tmp_path / "data" / "videos"
    videos.mkdir(parents=True)
    rows, scenes = ["video,label,start,end"], ["video,scene"]
    for n in range(10):
        write_video(videos / f"v{n}.mp4", [plain(20 + 20 * n)] * 20, rate=10)
        rows.append(f"v{n},{'walk' if n % 2 else 'wave'},0,1")
        scenes.append(f"v{n},{('hall', 'park', 'yard')[n % 3]}")
    (tmp_path / "data" / "annotations.csv").write_text("\n".join(rows))
    (tmp_path / "data" / "scenes.csv").write_text("\n".join(scenes))
    return tmp_path


def test_a_split_is_written_and_read(many: Path, inspect: Command) -> None:
    code, out, err = inspect(many / "own.toml")
    assert code == 2
    assert "no-subset" in out
    split = many / "split.json"
    code, out, err = inspect(
        many / "own.toml", "--write-split", split, "--validation", "0.2", "--test", "0.2", "--seed", "1"
    )
    assert (code, err) == (0, f'wrote {split}; next: data.split = "{split}" in the configuration\n')
    subsets = json.loads(split.read_text())["subsets"]
    assert {name: len(captures) for name, captures in subsets.items()} == {
        "training": 6,
        "validation": 2,
        "test": 2,
    }
    code, out, err = inspect(many / "own.toml", "--json", "--set", "data.split=split.json")
    report = json.loads(out)
    assert (code, err) == (0, "")
    assert [s["captures"] for s in report["subsets"]] == [6, 2, 2]
    assert [c["label"] for c in report["subsets"][1]["classes"]] == ["walk", "wave"]  # one of each
    before = split.read_bytes()
    code, _, err = inspect(many / "own.toml", "--write-split", split)
    assert (code, "exists; choose another name, or --force" in err, split.read_bytes()) == (2, True, before)
    code, _, _ = inspect(many / "own.toml", "--write-split", split, "--force", "--seed", "1", "--test", "0.2")
    assert (code, split.read_bytes()) == (0, before)


def test_folds(many: Path, inspect: Command) -> None:
    split = many / "folds.json"
    code, _, err = inspect(many / "own.toml", "--write-split", split, "--folds", "5")
    assert (code, "wrote" in err) == (0, True)
    scored = []
    for fold in range(5):
        data = open_data(DataConfig(root=str(many / "data"), split=str(split), fold=fold), 0.5)
        assert (len(data.training), len(data.validation)) == (8, 2)
        scored += [video.capture for video in data.validation]
    assert sorted(scored) == [f"v{n}" for n in range(10)]


def test_a_split_that_would_spoil_training_is_not_written(many: Path, inspect: Command) -> None:
    with (many / "data" / "annotations.csv").open("a") as table:
        table.write("\nv0,walk,1,9\n")
    code, out, err = inspect(many / "own.toml", "--write-split", many / "s.json")
    assert code == 2
    assert "segment-beyond-end" in out
    assert err.endswith(f"1 problem would spoil training; {many / 's.json'} was not written\n")
    assert not (many / "s.json").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--validation", "0"], "--validation 0 --test 0: expected shares"),
        (["--validation", "0.5", "--test", "0.5"], "expected shares that leave something to train on"),
        (["--test", "1"], "--test 1: expected a share"),
        (["--folds", "1"], "--folds 1: expected 2 or more"),
        (["--folds", "11"], "10 captures cannot be divided into 11 parts"),
    ],
)
def test_shares_that_do_not_fit(many: Path, inspect: Command, options: list[str], said: str) -> None:
    code, out, err = inspect(many / "own.toml", "--write-split", many / "s.json", *options)
    assert (code, out) == (2, "")
    assert said in err


def test_a_split_of_other_data(many: Path, inspect: Command) -> None:
    split = many / "split.json"
    inspect(many / "own.toml", "--write-split", split)
    (many / "data" / "videos" / "v10.mp4").write_bytes((many / "data" / "videos" / "v1.mp4").read_bytes())
    with (many / "data" / "annotations.csv").open("a") as table:
        table.write("\nv10,walk,0,1\n")
    code, out, err = inspect(many / "own.toml", "--set", "data.split=split.json")
    assert (code, out) == (2, "")
    assert "capture 'v10' is in the data, but in no subset" in err


# --- wrong usage ----------------------------------------------------------------------------------


def test_wrong_usage(folder: Path, inspect: Command) -> None:
    code, _, err = inspect(folder / "own.toml", "-o", folder / "no" / "report.txt")
    assert (code, f"there is no folder {folder / 'no'}" in err) == (2, True)
    code, _, err = inspect(folder / "own.toml", "--set", "data.root=nowhere")
    assert (code, "nowhere" in err) == (2, True)
    code, _, err = inspect(folder / "own.toml", "--set", "data.fold=1")
    assert (code, "data.fold = 1, but data.split names no file" in err) == (2, True)


def test_it_needs_no_torch(folder: Path) -> None:
    script = (
        "import sys; from tsm_train.commands.inspect_data import main\n"
        "try: main()\nfinally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder / "own.toml")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- anything at all ------------------------------------------------------------------------------

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["a1", "walk", "training", "", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["label", "segment", "subset", "scene", "annotations"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)
entries = st.fixed_dictionaries(
    {}, optional={"label": anything, "segment": st.tuples(st.floats(-1, 6), st.floats(-1, 6)) | anything}
)
videos_of = st.fixed_dictionaries(
    {},
    optional={
        "subset": st.sampled_from(["training", "validation", "x"]) | anything,
        "annotations": st.lists(entries, max_size=3) | anything,
        "scene": anything,
        "duration": st.floats(0, 9) | anything,
    },
)


@given(
    st.dictionaries(
        st.sampled_from(["a1", "a2", "b1", "gone", "../x", "\0", "\ud800"]), videos_of, max_size=4
    )
)
def test_any_annotations_are_inspected_or_refused(
    drawn_videos: Path, tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any_truth.json"
    path.write_text(json.dumps({"database": content}))
    try:
        data = open_data(DataConfig(annotations=str(path), videos=str(drawn_videos)), 0.5)
        json.dumps([segment.label for video in data.videos for segment in video.segments]).encode()
        inspect_data(data, 0.5)
    except UsageError as error:
        message = str(error)
        assert str(path) in message
