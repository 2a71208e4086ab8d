"""Where videos of a capture begin, and their segments moved there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes import result_of, seg
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.captures.offsets import find_offset, read_offsets
from tsm_runtime.captures.timeline import join_results, join_scenes, join_segments, moved_spans
from tsm_runtime.errors import UsageError
from tsm_runtime.formats.text import rounded
from tsm_runtime.results import SceneScore

SECONDS = st.floats(0, 1e4)
OFFSETS = st.floats(-1e4, 1e4)


@given(st.lists(st.tuples(SECONDS, SECONDS).map(sorted).map(tuple)), OFFSETS)  # type: ignore[arg-type]
def test_spans_and_their_files_are_moved_alike(spans: list[tuple[float, float]], offset: float) -> None:
    moved = moved_spans(spans, offset)
    held = [(rounded(start), rounded(end)) for start, end in spans]
    assert len(moved) == len(spans)
    if offset:
        assert moved == moved_spans(held, offset)
        for (start, end), span in zip(held, moved, strict=True):
            if span is None:
                assert end + offset <= 5e-7 or end - start < 5e-7
            else:
                assert span[0] == pytest.approx(max(start + offset, 0), abs=1e-6)
                assert span[1] == pytest.approx(end + offset, abs=1e-6)
                assert 0 <= span[0] < span[1]


def test_segments_of_clips_come_in_order_of_time() -> None:
    late, early = seg("a", 0.5, 2.0, 0.7), seg("b", 1.0, 3.0, 0.4)
    joined = join_segments([([late, seg("a", 0.0, 0.5)], 9.0), ([early, seg("b", 0.0, 0.25)], -0.25)])
    assert joined == [seg("b", 0.75, 2.75, 0.4), seg("a", 9.0, 9.5), seg("a", 9.5, 11.0, 0.7)]
    assert join_segments([([late], 0.0)]) == [late]


def test_scenes_of_clips_count_by_their_intervals() -> None:
    day, night = SceneScore(label="day", score=0.8), SceneScore(label="night", score=0.2)
    only = SceneScore(label="night", score=1.0)
    found = {s.label: s.score for s in join_scenes([((day, night), 30), ((only,), 10)])}
    assert found == pytest.approx({"day": 0.6, "night": 0.4})
    assert join_scenes([((day, night), 30)]) == (day, night)


def test_what_is_reported_of_clips() -> None:
    first = replace(
        result_of(seg("a", 1, 2), video_id="c/1"), gaps=((0.0, 1.5), (3.0, 4.0)), corrupt_frames=2
    )
    second = replace(result_of(video_id="c/2"), complete=False, gaps=((0.5, 1.0),), corrupt_frames=1)
    joined = join_results("c", [(first, -1.0), (second, 2.0)])
    assert (joined.video_id, joined.segments) == ("c", (seg("a", 0, 1),))
    assert joined.gaps == ((0.0, 0.5), (2.0, 3.0))
    assert joined.duration_seconds == pytest.approx(12.04)
    assert (joined.num_intervals, joined.corrupt_frames, joined.complete) == (40, 3, False)
    assert join_results("clip", [(first, 0.0)]) == replace(first, video_id="clip")


def test_whose_offset_counts() -> None:
    known = {"binocular/a/clip1": 2.0, "binocular/a/clip2": None}
    find = find_offset
    assert find("binocular/a/clip1", "binocular", known, 7.0, is_only=True) == 2.0
    assert find("binocular/a/clip2", "binocular", known, 7.0, is_only=True) == 7.0
    assert find("binocular/a/clip2", "binocular", known, 7.0, is_only=False) is None
    assert find("binocular/a/clip2", "binocular", known, None, is_only=True) is None
    assert find("panoramic/a", "panoramic", known, None, is_only=True) == 0.0
    assert find("third_person/a", "third_person", known, -3.0, is_only=True) == -3.0


def test_files_of_offsets(tmp_path: Path) -> None:
    expected = {"binocular/a/clip1": 1.5, "third_person/a": -2.0, "monocular/b/clip3": None}
    texts = {
        "o.csv": "offset_seconds,video\n1.5,binocular/a/clip1\n-2,third_person/a\n,monocular/b/clip3\n",
        "o.json": '{"format": "tsm-tal split 1", "subsets": {}, "offsets": {"binocular/a/clip1": 1.5,'
        ' "third_person/a": -2, "monocular/b/clip3": null}}',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        assert read_offsets(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("o.json", '{"subsets": {}}', 'no "offsets"; expected a split file with "offsets": {"binocular/ID/'),
        ("o.json", '{"offsets": {"binocular/a/clip1": "2"}}', "o.json: Expected `float | null`, got `str`"),
        ("o.json", '{"offsets": {"binocular/a/clip1": NaN}}', "'binocular/a/clip1' is nan; expected seconds"),
        ("o.json", '{"offsets": {"binocular/a/c": 1, "binocular/a/c": 2}}', "is there 2 times"),
        ("o.json", '{"offsets": {"binocular/a": 1}}', "'binocular/a': expected binocular/<capture>/<clip>"),
        ("o.json", '{"offsets": {"panoramic/a/clip1": 1}}', "'panoramic/a/clip1': expected"),
        ("o.json", '{"offsets": {"glasses/a/clip1": 1}}', "'glasses/a/clip1': expected"),
        ("o.json", "{", "not JSON"),
        ("o.toml", "offsets = ", "not TOML"),
        ("o.csv", "video,start\n", "no column offset_seconds; expected the header video,offset_seconds"),
        ("o.csv", "video,offset_seconds\nthird_person/a,x\n", "line 2: offset_seconds 'x' is no number"),
        ("o.csv", "video,offset_seconds\nthird_person/a,inf\n", "line 2: offset of 'third_person/a' is inf"),
        (
            "o.csv",
            "video,offset_seconds\nthird_person/a,1\nthird_person/a,1\n",
            "line 3: video 'third_person/a' is",
        ),
    ],
)
def test_wrong_files_of_offsets(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as caught:
        read_offsets(tmp_path / name)
    assert words in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
