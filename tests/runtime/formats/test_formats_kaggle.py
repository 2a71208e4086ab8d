"""The challenge's CSV: cutting into bins of 10 s, class ids, the scene track, and reading back."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import result_of, seg
from hypothesis import given, settings
from hypothesis import strategies as st

from tsm_runtime.errors import UsageError
from tsm_runtime.formats.kaggle import (
    ACTION_IDS,
    SCENE_LABELS,
    read_label_map,
    results_to_kaggle,
    scenes_to_kaggle,
)
from tsm_runtime.formats.read_write import read_segments
from tsm_runtime.results import Result, SceneScore, Segment


def lasting(seconds: float, *found: Segment, video_id: str = "0e7c") -> Result:
    return replace(result_of(*found, video_id=video_id), duration_seconds=seconds)


def test_a_submission_worked_by_hand() -> None:
    found = (
        seg("walking", 7.5, 31.04, 0.9),  # 2.5 s, two whole bins, 1.04 s
        seg("eating", 9.75, 10.5, 0.5),  # 0.25 s is dropped, 0.5 s stays
        seg("pushing", 11, 11.4, 0.4),  # too short anywhere
    )
    assert results_to_kaggle([lasting(50.04, *found), lasting(10, video_id="a,b")]) == (
        "id,prediction\n"
        '0e7c_0_10,"[[1, 7.5, 10.0, 0.9]]"\n'
        '0e7c_10_20,"[[1, 10.0, 20.0, 0.9], [4, 10.0, 10.5, 0.5]]"\n'
        '0e7c_20_30,"[[1, 20.0, 30.0, 0.9]]"\n'
        '0e7c_30_40,"[[1, 30.0, 31.0, 0.9]]"\n'
        "0e7c_40_50,[]\n"
        "0e7c_50_60,[]\n"
        '"a,b_0_10",[]\n'
    )


def slow_cut(segment: Segment) -> list[tuple[int, float, float]]:
    """(bin, start, end) of what is kept, by walking in milliseconds."""
    start, end = round(segment.start_seconds * 1000), round(segment.end_seconds * 1000)
    kept = []
    while start < end:
        border = (start // 10_000 + 1) * 10_000
        stop = min(end, border)
        if stop - start >= 500:
            kept.append((start // 10_000, round(start / 1000, 1), round(stop / 1000, 1)))
        start = stop
    return kept


known = st.builds(
    lambda label, start, length, score: seg(label, start / 1000, (start + length) / 1000, score / 1000),
    st.sampled_from(sorted(ACTION_IDS)),
    st.integers(0, 60_000),
    st.integers(1, 45_000),
    st.integers(0, 1000),
)


@settings(max_examples=60)
@given(st.lists(known, max_size=5), st.integers(1, 120_000))
def test_bins_equal_a_slow_reference_and_come_back(
    tmp_path_factory: pytest.TempPathFactory, found: list[Segment], milliseconds: int
) -> None:
    length = max([milliseconds, *(round(s.end_seconds * 1000) for s in found)])
    text = results_to_kaggle([lasting(length / 1000, *found, video_id="a_b")])
    rows = list(csv.DictReader(io.StringIO(text)))
    num_bins = (length + 9_999) // 10_000
    assert [row["id"] for row in rows] == [f"a_b_{10 * n}_{10 * n + 10}" for n in range(num_bins)]
    expected: list[list[list[float]]] = [[] for _ in rows]
    for segment in found:
        for number, start, end in slow_cut(segment):
            expected[number].append([ACTION_IDS[segment.label], start, end, segment.score])
    assert [json.loads(row["prediction"]) for row in rows] == expected
    path = tmp_path_factory.mktemp("kaggle") / "submission.csv"
    path.write_text(text)
    back = read_segments(path)
    labels = {number: label for label, number in ACTION_IDS.items()}
    assert back == {"a_b": [seg(labels[int(c)], *rest) for entries in expected for c, *rest in entries]}


def test_the_built_in_ids_are_those_of_the_kit(shared_data: Path) -> None:
    assert sorted(ACTION_IDS.values()) == list(range(1, 35))
    lines = (shared_data / "x360_annotations" / "actions.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    assert {name: int(number) for name, number, *_ in rows if number != "-"} == ACTION_IDS
    scenes = (shared_data / "x360_annotations" / "scenes.txt").read_text().splitlines()
    assert tuple(line for line in scenes if not line.startswith("#")) == SCENE_LABELS


def test_a_label_without_id_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="no class id for 'cleaning', 'Assisting'; give --label-map"):
        results_to_kaggle([lasting(5, seg("cleaning", 0, 1), seg("Assisting", 1, 2), seg("eating", 0, 1))])


def test_a_label_map(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text('{"hug": 7, "cleaning": null}')
    ids = read_label_map(path)
    text = results_to_kaggle([lasting(9, seg("hug", 1, 2, 0.5), seg("cleaning", 2, 3))], ids)
    assert text == 'id,prediction\n0e7c_0_10,"[[7, 1.0, 2.0, 0.5]]"\n'
    (tmp_path / "a.csv").write_text(text)
    assert read_segments(tmp_path / "a.csv", label_ids=ids) == {"0e7c": [seg("hug", 1, 2, 0.5)]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "expected a JSON object of ids by label"),
        ("{}", "expected a JSON object of ids by label"),
        ('{"a": "1"}', "the id of 'a' is '1'"),
        ('{"a": true}', "the id of 'a' is True"),
        ('{"a": -1}', "the id of 'a' is -1"),
        ('{"a": 1, "b": 1}', "'a' and 'b' have the same id 1"),
        ("a,1", "not JSON"),
    ],
)
def test_a_wrong_label_map_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        read_label_map(tmp_path / "map.json")
    assert str(caught.value).startswith(str(tmp_path / "map.json"))


def test_the_scene_track() -> None:
    scenes = (SceneScore(label="Nature", score=0.7), SceneScore(label="Campus", score=0.3))
    lines = scenes_to_kaggle([replace(lasting(5), scenes=scenes)]).splitlines()
    assert lines == [
        "id," + ",".join(str(n) for n in range(28)),
        "0e7c," + ",".join("1" if n == 4 else "0" for n in range(28)),
    ]
    with pytest.raises(UsageError, match="video '0e7c': scene None is none of the 28"):
        scenes_to_kaggle([lasting(5)])
    with pytest.raises(UsageError, match="scene 'yard' is none of the 28"):
        scenes_to_kaggle([replace(lasting(5), scenes=(SceneScore(label="yard", score=1),))])


def test_the_challenge_s_own_files(tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text(
        'id,label,Usage\r\nab_0_10,"[[1, 0.5, 10.0]]",Public\r\nab_10_20,"[[34, 10, 11.5]]",Private\r\n'
    )
    assert read_segments(truth) == {"ab": [seg("walking", 0.5, 10), seg("pushing", 10, 11.5)]}
    sample = tmp_path / "sample.csv"
    sample.write_text('id,prediction\nab_0_10,"[[0, 1, 2, 0.999], [2, 3, 4, 0.999]]"\ncd_0_10,[]\n')
    assert read_segments(sample) == {"ab": [seg("operating phone", 3, 4, 0.999)], "cd": []}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("ab,[]", "line 2: id is 'ab'; expected <video id>_<start>_<end>"),
        ("ab_0_10,x", "line 2: expected .*got 'x'"),
        ("ab_0_10,{}", "line 2: expected"),
        ('ab_0_10,"[[1, 2]]"', "line 2, entry 1: expected .class, start, end, score., got .1, 2."),
        ('ab_0_10,"[[1, 0, 1, 1], [1, ""0"", 1, 1]]"', "line 2, entry 2: expected"),
        ('ab_0_10,"[[35, 0, 1, 1]]"', "line 2, entry 1: class 35 has no label; known are 0-34"),
        ('ab_0_10,"[[1, 3, 2, 1]]"', "line 2, entry 1: .*start < end"),
        ('ab_0_10,"[[1, 3, NaN, 1]]"', "line 2, entry 1: .*not finite"),
        ('ab_0_10,"[[1, 3, 1' + "0" * 400 + ', 1]]"', "line 2, entry 1: expected"),
        ("ab_0_10,[],3", "line 2: 3 cells, the header has 2"),
    ],
)
def test_a_wrong_submission_is_named(tmp_path: Path, row: str, words: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"id,prediction\n{row}\n")
    with pytest.raises(UsageError, match=words) as caught:
        read_segments(path)
    assert str(caught.value).startswith(str(path))
