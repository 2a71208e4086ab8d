"""Reading ground truth, and the label of each interval."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.errors import UsageError
from tsm_runtime.formats.ground_truth import GroundTruth, read_ground_truth
from tsm_runtime.results import BACKGROUND, Segment
from tsm_train.data.interval_labels import interval_coverage, interval_label, interval_labels


def seg(label: str, start: float, end: float) -> Segment:
    return Segment(label=label, start_seconds=start, end_seconds=end)


def write(tmp_path: Path, database: object) -> Path:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"version": "1.3", "database": database}), encoding="utf-8")
    return path


def one_video(tmp_path: Path, *annotations: object, **fields: object) -> Path:
    video = {"subset": "validation", "duration": 10.0, "annotations": list(annotations), **fields}
    return write(tmp_path, {"v1": video})


def test_reads_videos_labels_and_scenes(tmp_path: Path) -> None:
    walk = {"label": "walk", "segment": [0, 2.5], "confidence of annotator": 3}
    path = write(
        tmp_path,
        {
            "b": {"subset": "training", "duration": 9, "scene": "yard", "annotations": [walk], "fps": 25},
            "a": {"subset": "testing"},
        },
    )
    truth = read_ground_truth(path)
    first, second = truth.videos
    assert (first.video_id, first.subset, first.duration_seconds) == ("b", "training", 9.0)
    assert first.segments == (seg("walk", 0.0, 2.5),)
    assert (second.scene, second.duration_seconds, second.segments) == (None, None, ())
    assert truth.action_labels == ("walk",)
    assert truth.scene_labels == ("yard",)
    assert truth.scenes == {"b": "yard"}
    assert truth.segments == {"b": (seg("walk", 0.0, 2.5),), "a": ()}
    assert truth.warnings == ()


def test_subset_keeps_its_videos_and_names_the_others(tmp_path: Path) -> None:
    truth = read_ground_truth(write(tmp_path, {"a": {"subset": "training"}, "b": {"subset": "validation"}}))
    assert [video.video_id for video in truth.subset("validation").videos] == ["b"]
    with pytest.raises(UsageError, match=r"no video of subset 'val'.*'training', 'validation'"):
        truth.subset("val")
    with pytest.raises(UsageError, match="none"):
        GroundTruth(videos=()).subset("val")


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ({"label": "walk", "segment": [1, float("nan")]}, "two finite numbers"),
        ({"label": "walk", "segment": [1, float("inf")]}, "two finite numbers"),
        ({"label": "walk", "segment": [2, 2]}, "length zero"),
        ({"label": "walk", "segment": [2, 1]}, "ends before it starts"),
        ({"label": "walk", "segment": [-0.1, 1]}, "starts before 0"),
        ({"label": "walk", "segment": [1]}, "length"),
        ({"label": "walk", "segment": ["1", "2_0"]}, "'2_0' is no number"),
        ({"label": "walk"}, "segment"),
        ({"segment": [1, 2]}, "label"),
        ({"label": " ", "segment": [1, 2]}, "empty label"),
        ({"label": 3, "segment": [1, 2]}, "str"),
        ({"label": BACKGROUND, "segment": [1, 2]}, "reserved"),
        (None, "object"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, annotation: object, words: str) -> None:
    path = one_video(tmp_path, {"label": "walk", "segment": [0, 1]}, annotation)
    with pytest.raises(UsageError, match=words) as caught:
        read_ground_truth(path)
    assert str(caught.value).startswith(f"{path}: video 'v1', entry 2")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"duration": float("nan")}, "duration"),
        ({"duration": -1}, "duration"),
        ({"scene": ""}, "scene"),
        ({"annotations": {}}, "array"),
    ],
)
def test_a_wrong_video_is_named(tmp_path: Path, fields: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=rf"video 'v1': .*{words}"):
        read_ground_truth(one_video(tmp_path, **fields))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"video,label,start,end", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[]", "database"),
        (b'{"database": []}', "database"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "truth.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        read_ground_truth(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.json: cannot be read: No such file"):
        read_ground_truth(tmp_path / "nowhere.json")


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    path.write_bytes(b'\xef\xbb\xbf{"database": {}}')
    assert read_ground_truth(path).videos == ()


def test_a_segment_beyond_the_end_is_kept_with_a_warning(tmp_path: Path) -> None:
    late = [{"label": "walk", "segment": [8, end]} for end in (10.5, 10.51)]
    truth = read_ground_truth(one_video(tmp_path, *late))
    assert len(truth.videos[0].segments) == 2
    assert len(truth.warnings) == 1
    assert "entry 2: ends at 10.51 s, the video at 10.0 s" in truth.warnings[0]


def test_zero_length_instances_can_be_counted(tmp_path: Path) -> None:
    path = one_video(tmp_path, {"label": "walk", "segment": [3, 3]}, {"label": "run", "segment": [1, 2]})
    truth = read_ground_truth(path, empty_segments="count")
    assert truth.videos[0].empty_labels == ("walk",)
    assert truth.action_labels == ("run", "walk")
    assert truth.videos[0].segments == (seg("run", 1.0, 2.0),)
    assert "entry 1: zero-length" in truth.warnings[0]


@pytest.mark.parametrize(
    ("name", "videos", "actions", "scenes"),
    [("ut_interaction", 16, 6, ("lawn", "parking lot")), ("weizmann", 7, 9, ("yard",))],
)
def test_reads_the_small_sets(
    shared_data: Path, name: str, videos: int, actions: int, scenes: tuple[str, ...]
) -> None:
    truth = read_ground_truth(shared_data / name / "ground_truth.json")
    assert (len(truth.videos), len(truth.action_labels), truth.scene_labels) == (videos, actions, scenes)
    assert truth.warnings == ()


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        pytest.param([], BACKGROUND, id="nothing"),
        pytest.param([seg("a", 0, 1)], "a", id="whole"),
        pytest.param([seg("a", 0, 0.5)], "a", id="exactly half"),
        pytest.param([seg("a", 0, 0.4999)], BACKGROUND, id="just below half"),
        pytest.param([seg("a", 1, 2)], BACKGROUND, id="touches only"),
        pytest.param([seg("a", 0, 0.3), seg("a", 0.6, 0.9)], "a", id="two parts together"),
        pytest.param([seg("a", 0, 0.4), seg("a", 0.1, 0.45)], BACKGROUND, id="overlap counts once"),
        pytest.param([seg("a", 0, 0.4), seg("b", 0.4, 0.8)], BACKGROUND, id="two labels do not add up"),
        pytest.param([seg("a", 0, 0.6), seg("b", 0.3, 1)], "b", id="most"),
        pytest.param([seg("a", 0, 9), seg("b", 0, 3)], "b", id="tie: shortest instance"),
        pytest.param([seg("b", 0, 3), seg("a", 0, 3)], "a", id="tie: by name"),
        pytest.param([seg("a", 0, 0.5), seg("b", 0.5, 1)], "a", id="both half: by name"),
        pytest.param([seg("a", 0, 0.5), seg("b", 0.5, 0.9)], "a", id="half against less"),
        pytest.param([seg("a", 0, 9), seg("a", 0, 1), seg("b", 0, 3)], "a", id="shortest of several"),
        pytest.param([seg("a", 0, 9), seg("a", 20, 21), seg("b", 0, 3)], "b", id="elsewhere does not count"),
    ],
)
def test_interval_label(segments: list[Segment], expected: str) -> None:
    assert interval_label(segments, 0.0, 1.0) == expected


def test_half_an_interval_survives_rounding_of_floats() -> None:
    # 0.1 * 3 and 0.1 * 3.5 are not exact: half of [0.3, 0.4) is covered up to 1e-17.
    assert interval_label([seg("a", 0.1 * 3, 0.35)], 0.1 * 3, 0.1 * 4) == "a"
    assert interval_labels([seg("a", 1000.35, 1000.4)], 1, 0.1, offset_seconds=1000.3) == ["a"]


def test_interval_labels_of_a_video() -> None:
    segments = [seg("a", 0.75, 2.0), seg("b", 2.0, 2.25)]
    assert interval_labels(segments, 6, 0.5) == [BACKGROUND, "a", "a", "a", "b", BACKGROUND]
    assert interval_labels(segments, 3, 0.5, offset_seconds=1.75) == ["b", BACKGROUND, BACKGROUND]
    assert interval_labels(segments, 0, 0.5) == []
    assert interval_labels([], 2, 0.5) == [BACKGROUND, BACKGROUND]


def test_interval_coverage_leaves_out_what_covers_nothing() -> None:
    coverage = interval_coverage([seg("a", 0, 2), seg("a", 1, 3), seg("b", 4, 5)], 0.5, 4.0)
    assert coverage == {"a": 2.5}


segments_strategy = st.lists(
    st.builds(
        lambda label, start, length: seg(label, start / 8, (start + length) / 8),
        st.sampled_from("abc"),
        st.integers(0, 60),
        st.integers(1, 40),
    ),
    max_size=8,
)


@given(segments_strategy, st.sampled_from([0.25, 0.5, 1.0, 0.3]), st.sampled_from([0.0, 0.125, 2.0]))
def test_the_list_agrees_with_single_intervals(
    segments: list[Segment], interval_seconds: float, offset: float
) -> None:
    labels = interval_labels(segments, 12, interval_seconds, offset_seconds=offset)
    borders = [offset + k * interval_seconds for k in range(13)]
    assert labels == [interval_label(segments, borders[k], borders[k + 1]) for k in range(12)]


@given(segments_strategy, st.randoms(use_true_random=False))
def test_the_order_of_segments_does_not_matter(segments: list[Segment], random: object) -> None:
    mixed = list(segments)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert interval_labels(mixed, 12, 0.5) == interval_labels(segments, 12, 0.5)
