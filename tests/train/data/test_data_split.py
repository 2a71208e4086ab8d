"""Splits by capture: made evenly and from a seed, written, read back strictly."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.captures.offsets import read_offsets
from tsm_runtime.errors import UsageError
from tsm_train.data.allocation import allocate
from tsm_train.data.split import FORMAT, Split, encode_split, read_split

SUBSETS = {"training": ["a", "b"], "validation": ["c"], "test": ["d"]}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "split.json"
    content = {"format": FORMAT, "subsets": SUBSETS, **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return path


def refusal(path: Path, fold: int = 0) -> str:
    with pytest.raises(UsageError) as caught:
        read_split(path, fold)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- the file -------------------------------------------------------------------------------------


def test_a_file_survives(tmp_path: Path) -> None:
    offsets = {"binocular/a/clip1": 1.25, "binocular/a/clip2": None}
    path = written(tmp_path, offsets=offsets, about={"seed": 3})
    split = read_split(path)
    assert split.subset_of() == {"a": "training", "b": "training", "c": "validation", "d": "test"}
    assert split.offsets == offsets
    path.write_bytes(encode_split(split))
    assert read_split(path) == split
    assert read_offsets(path) == offsets  # as tsm-run and tsm-fuse read it


def test_toml(tmp_path: Path) -> None:
    path = tmp_path / "split.toml"
    path.write_text(
        f'format = "{FORMAT}"\n[subsets]\ntraining = ["a"]\nvalidation = ["b"]\n'
        '[offsets]\n"binocular/a/clip1" = 2\n'
    )
    split = read_split(path)
    assert split.subset_of() == {"a": "training", "b": "validation"}
    assert split.offsets == {"binocular/a/clip1": 2.0}
    path.write_text("format = ")
    assert "not TOML" in refusal(path)


def test_folds(tmp_path: Path) -> None:
    folds = [["a", "b"], ["c"], ["d", "e"]]
    path = written(tmp_path, subsets=None, folds=folds, test=["z"])
    for number, fold in enumerate(folds):
        split = read_split(path, number)
        assert split.subsets["validation"] == tuple(fold)
        assert sorted((*split.subsets["training"], *fold)) == list("abcde")
        assert split.subsets["test"] == ("z",)
        assert json.loads(encode_split(split)) == json.loads(path.read_text())
    assert refusal(path, 3) == f"data.fold = 3, but {path} has the folds 0 to 2"
    assert refusal(written(tmp_path), 1) == f"data.fold = 1, but {path} has subsets and no folds"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "tsm-tal split 2"}, "format is 'tsm-tal split 2'; this program reads 'tsm-tal split 1'"),
        ({"format": None}, "missing required field `format`"),
        ({"fold": []}, "unknown field `fold`"),
        ({"subsets": None}, 'expected either "subsets" or "folds"'),
        ({"folds": [["a"], ["b"]]}, 'expected either "subsets" or "folds"'),
        ({"subsets": {**SUBSETS, "valid": []}}, "unknown subset 'valid'; known: training, validation, test"),
        ({"subsets": {**SUBSETS, "test": ["a"]}}, "capture 'a' is in training and in test"),
        ({"subsets": {**SUBSETS, "test": ["d", "d"]}}, "capture 'd' is twice in test"),
        ({"subsets": {"training": ["a"]}}, "no capture in validation"),
        ({"subsets": {"training": "a"}}, "Expected `array`, got `str`"),
        ({"subsets": None, "folds": [["a"], ["b", "a"]]}, "capture 'a' is in training and in validation"),
        ({"subsets": None, "folds": [["a"]]}, "1 fold; expected two or more"),
        ({"subsets": None, "folds": [["a"], []]}, "no capture in training"),
        ({"test": ["q"]}, '"test" stands inside "subsets"'),
        ({"offsets": {"binocular/a/clip1": "2 s"}}, "Expected `float | null`, got `str`"),
    ],
)
def test_a_wrong_file_is_reported(tmp_path: Path, changes: Any, said: str) -> None:
    path = written(tmp_path, **changes)
    message = refusal(path)
    assert message.startswith(str(path))
    assert said in message


def test_other_ways_to_be_wrong(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    text = '{"format": "%s", "subsets": {"training": ["a"], "training": ["b"], "validation": ["c"]}}'
    path.write_text(text % FORMAT)
    assert "key 'training' is there 2 times" in refusal(path)
    written(tmp_path, offsets={"a/b/c": float("nan")})
    assert "offset of 'a/b/c' is nan; expected seconds, or null" in refusal(path)
    path.write_text("[")
    assert "not JSON" in refusal(path)
    assert "no such file; tsm-inspect --write-split" in refusal(tmp_path / "gone.json")


def test_against_the_captures_there_are(tmp_path: Path) -> None:
    split = read_split(written(tmp_path, offsets={"binocular/d/clip1": None}))
    split.check("abcd", "abcd")
    split.check("abc", "abcd")  # of d there is no video of this view
    for seen, known, said in (
        ("abc", "abc", "capture 'd' is not in the data"),
        ("abcdef", "abcdef", "captures 'e', 'f' are in the data, but in no subset"),
    ):
        with pytest.raises(UsageError, match=said):
            split.check(seen, known)
    for clip in ("binocular/x/clip1", "d/clip1"):
        other = read_split(written(tmp_path, offsets={clip: 1.0}))
        with pytest.raises(UsageError, match=f"offset of '{clip}': no such clip"):
            other.check("abcd", "abcd")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["a", "b", "", "\ud800", FORMAT]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["format", "subsets", "folds", "training", "validation", "test", "offsets", "about"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(
    json_values
    | st.fixed_dictionaries(
        {"format": st.just(FORMAT)},
        optional=dict.fromkeys(("subsets", "folds", "test", "offsets", "about"), json_values),
    ),
    st.integers(0, 3),
)
def test_any_json_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: Any, fold: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any_split.json"
    path.write_text(json.dumps(content))
    try:
        split = read_split(path, fold)
    except UsageError as error:
        message = str(error)
        assert str(path) in message
    else:
        assert isinstance(split, Split)
        assert split.subsets["training"] and split.subsets["validation"]  # noqa: PT018


# --- dividing -------------------------------------------------------------------------------------

captures_of = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(["scene x", "scene y", "walk", "wave"]), st.floats(0.1, 50), max_size=4),
    min_size=3,
    max_size=25,
)


@given(captures_of, st.integers(0, 5), st.floats(0.05, 0.6))
def test_each_capture_is_in_one_part_of_the_right_size(captures: Any, seed: int, share: float) -> None:
    shares = [1 - share, share]
    parts = allocate(captures, shares, seed=seed, may_own=[0])
    assert sorted(name for part in parts for name in part) == sorted(captures)
    expected = len(captures) * share
    assert max(1, int(expected)) <= len(parts[1]) <= int(expected) + 1
    assert parts == allocate(captures, shares, seed=seed, may_own=[0])


def test_scenes_and_seconds_are_divided_evenly() -> None:
    """Ten scenes of ten captures each, and two classes whose seconds lie unevenly."""
    captures = {
        f"c{n:03d}": {f"scene {n // 10}": 1.0, "walk": 1.0 + n % 7, **({"wave": 30.0} if n % 9 == 0 else {})}
        for n in range(100)
    }
    training, validation = allocate(captures, [0.8, 0.2], seed=0)
    scenes = Counter(name for capture in validation for name in captures[capture] if "scene" in name)
    assert set(scenes.values()) == {2}
    assert len(scenes) == 10
    walk = [sum(captures[c]["walk"] for c in part) for part in (training, validation)]
    assert walk[1] / sum(walk) == pytest.approx(0.2, abs=0.01)
    wave = sum("wave" in captures[c] for c in validation)
    assert wave in (2, 3)  # of 12


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_one_or_two_captures_stays_in_training(seed: int) -> None:
    captures = {f"c{n}": {"walk": 10.0} for n in range(20)}
    captures["c3"] = {"walk": 10.0, "firework": 2.0}
    captures["c7"] = captures["c8"] = {"walk": 10.0, "alarming": 1.0}
    training, validation = allocate(captures, [0.5, 0.5], seed=seed, may_own=[0])
    assert "c3" in training
    assert {"c7", "c8"} & set(training)
    assert len(validation) == 10


def test_folds_are_even() -> None:
    captures = {f"c{n}": {f"scene {n % 3}": 1.0, "walk": float(1 + n % 4)} for n in range(30)}
    parts = allocate(captures, [0.2] * 5, seed=1)
    for part in parts:
        assert Counter(name for c in part for name in captures[c] if "scene" in name) == {
            f"scene {n}": 2 for n in range(3)
        }
        assert sum(captures[c]["walk"] for c in part) == pytest.approx(14.8, abs=1.3)


def test_the_seed_chooses_among_equals() -> None:
    captures: dict[str, dict[str, float]] = {f"c{n}": {"walk": 1.0} for n in range(12)}
    found = {tuple(allocate(captures, [0.75, 0.25], seed=seed)[1]) for seed in range(8)}
    assert len(found) > 3


def test_too_few_captures() -> None:
    with pytest.raises(ValueError, match="1 capture cannot be divided into 2 parts"):
        allocate({"a": {}}, [0.8, 0.2], seed=0)
