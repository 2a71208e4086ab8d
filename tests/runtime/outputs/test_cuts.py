"""Clips of what was found: names, copies from the key frame, exact frames, padding, reels; all decoded."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from media import counted, write_video

from tsm_runtime.errors import RunError, UsageError
from tsm_runtime.formats.result_file import result_of_segments
from tsm_runtime.outputs.cuts.names import FileNames, safe_name
from tsm_runtime.outputs.cuts.sink import CutSink, check_cuts
from tsm_runtime.outputs.cuts.spans import CutRequest, spans_of
from tsm_runtime.results import Result, Segment
from tsm_runtime.video.finding import VideoInput


def seg(label: str, start: float, end: float) -> Segment:
    return Segment(label=label, start_seconds=start, end_seconds=end, score=0.5)


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.is_closed = False

    def add(self, result: Result) -> None:
        self.results.append(result)

    def fail(self, video_id: str, reason: str) -> None:
        raise AssertionError(reason)

    def close(self) -> None:
        self.is_closed = True


def cut(
    video: Path, segments: Sequence[Segment], request: CutRequest, video_id: str = "v"
) -> list[dict[str, str]]:
    kept = Kept()
    sink = CutSink(kept, request, [VideoInput(video, video_id)])
    sink.add(replace(result_of_segments(video_id, segments), duration_seconds=4.0))
    sink.close()
    assert kept.is_closed
    with (request.folder / "clips.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def shown(path: Path) -> tuple[list[float], list[int]]:
    """Times and numbers of the frames, which `counted` tells by their brightness."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = [round(float(frame.pts * frame.time_base), 3) for frame in frames]
    return times, [round(float(np.median(frame.to_ndarray(format="gray"))) / 2) for frame in frames]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of 25 frames, a key frame each second, B-frames, and sound."""
    path = tmp_path_factory.mktemp("cuts") / "v.mp4"
    return write_video(path, counted(100), silence_seconds=4.0)


def near(found: Sequence[int], first: int, last: int) -> bool:
    """Whether these are the frames from first to last, up to what encoding does to brightness."""
    wanted = list(range(first, last + 1))
    return len(found) == len(wanted) and all(abs(a - b) <= 1 for a, b in zip(found, wanted, strict=True))


# --- copies ---------------------------------------------------------------------------------------


def test_a_copy_begins_with_the_key_frame_before(video: Path, tmp_path: Path) -> None:
    rows = cut(video, [seg("run", 1.4, 2.2), seg("sit", 3.0, 4.0)], CutRequest(folder=tmp_path / "out"))
    assert [(row["file"], float(row["at"])) for row in rows] == [
        ("v_001_run.mp4", pytest.approx(0.4)),
        ("v_002_sit.mp4", pytest.approx(0.0)),
    ]
    times, numbers = shown(tmp_path / "out" / "v_001_run.mp4")
    assert times[0] == 0.0
    assert near(numbers[:30], 25, 54)
    assert 30 <= len(numbers) <= 33  # a few frames more, by the order in which they are stored
    assert near(shown(tmp_path / "out" / "v_002_sit.mp4")[1], 75, 99)
    with av.open(str(tmp_path / "out" / "v_001_run.mp4")) as container:
        (sound,) = container.streams.audio
        assert float(sound.duration * sound.time_base) == pytest.approx(1.2, abs=0.15)


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mov"])
def test_copies_stay_in_their_container(video: Path, tmp_path: Path, suffix: str) -> None:
    other = write_video(tmp_path / f"v{suffix}", counted(100))
    (row,) = cut(other, [seg("run", 2.5, 3.0)], CutRequest(folder=tmp_path / "out"))
    assert row["file"] == f"v_001_run{suffix}"
    _, numbers = shown(tmp_path / "out" / row["file"])
    assert near(numbers[:25], 50, 74)
    assert float(row["at"]) == pytest.approx(0.5, abs=1e-3)


def test_a_reel_of_copies_goes_on_in_time(video: Path, tmp_path: Path) -> None:
    request = CutRequest(folder=tmp_path / "out", reel=True)
    rows = cut(video, [seg("run", 0.2, 0.6), seg("sit", 0.5, 0.8), seg("hop", 3.2, 3.6)], request)
    assert {row["file"] for row in rows} == {"v_reel.mp4"}
    times, numbers = shown(tmp_path / "out" / "v_reel.mp4")
    assert times == sorted(set(times))
    begin = next(n for n, number in enumerate(numbers) if number >= 74)
    assert near(numbers[:20], 0, 19)
    assert near(numbers[begin : begin + 15], 75, 89)
    hop = next(row for row in rows if row["label"] == "hop")
    assert float(hop["at"]) == pytest.approx(times[begin] + 0.2, abs=0.05)


# --- exact ----------------------------------------------------------------------------------------


def test_exact_clips_have_the_segment_s_frames_and_no_others(video: Path, tmp_path: Path) -> None:
    request = CutRequest(folder=tmp_path / "out", exact=True)
    (row,) = cut(video, [seg("run", 1.4, 2.2)], request)
    times, numbers = shown(tmp_path / "out" / row["file"])
    assert near(numbers, 35, 54)
    assert (times[0], times[-1]) == (0.0, pytest.approx(0.76))
    with av.open(str(tmp_path / "out" / row["file"])) as container:
        assert len(container.streams.audio) == 1


def test_padding_ends_with_the_video(video: Path, tmp_path: Path) -> None:
    request = CutRequest(folder=tmp_path / "out", exact=True, padding_seconds=0.4)
    first, last = cut(video, [seg("run", 0.2, 0.4), seg("sit", 3.4, 3.8)], request)
    assert near(shown(tmp_path / "out" / first["file"])[1], 0, 19)
    assert near(shown(tmp_path / "out" / last["file"])[1], 75, 99)
    assert (float(first["at"]), float(last["at"])) == (pytest.approx(0.2), pytest.approx(0.4))


def test_an_exact_reel(video: Path, tmp_path: Path) -> None:
    request = CutRequest(folder=tmp_path / "out", exact=True, reel=True)
    cut(video, [seg("hop", 3.2, 3.6), seg("run", 0.4, 0.8)], request)
    times, numbers = shown(tmp_path / "out" / "v_reel.mp4")
    assert near(numbers[:10], 10, 19)
    assert near(numbers[10:], 80, 89)
    assert times == pytest.approx([n / 25 for n in range(20)], abs=2e-3)


def test_a_container_without_times_is_encoded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video = write_video(tmp_path / "v.avi", counted(50), codec="mpeg4")
    (row,) = cut(video, [seg("run", 1.0, 1.4)], CutRequest(folder=tmp_path / "out"))
    assert row["file"] == "v_001_run.mp4"
    assert len(shown(tmp_path / "out" / row["file"])[1]) == 10
    assert "does not allow copies; cut with encoding" in caplog.text


# --- names and mistakes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hand shaking", "hand_shaking"),
        ('a<b>:"/\\|?*\n\x00c', "a_b_c"),
        ("CON", "_CON"),
        ("lpt1.txt", "_lpt1.txt"),
        ("..", "_"),
        ("ends. ", "ends"),
        ("e\u0301t\u00e9 \u8dd1", "\u00e9t\u00e9_\u8dd1"),
        ("\u8dd1" * 100, "\u8dd1" * 26),
        ("a\udcffb", "a_b"),
    ],
)
def test_names_are_safe_on_every_system(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_names_that_differ_only_in_case_are_told_apart() -> None:
    names = FileNames()
    assert [names.unique(stem, ".mp4") for stem in ("A", "a", "A")] == ["A.mp4", "a-2.mp4", "A-3.mp4"]


def test_a_segment_without_frames_does_not_cost_the_others(video: Path, tmp_path: Path) -> None:
    sink = CutSink(Kept(), CutRequest(folder=tmp_path / "out", exact=True), [VideoInput(video, "v")])
    sink.add(result_of_segments("v", [seg("run", 0, 0.2), seg("sit", 9.0, 9.5)]))
    with pytest.raises(RunError, match=r"1 clip not written; .*: v_002_sit\.mp4: .* no frame"):
        sink.close()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clips.csv", "v_001_run.mp4"]


def test_the_folder_is_checked_before_the_run(video: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file; give a folder"):
        check_cuts(CutRequest(folder=tmp_path / "file"), [])
    with pytest.raises(UsageError, match="the videos lie there"):
        check_cuts(CutRequest(folder=video.parent), [VideoInput(video, "v")])


def test_spans_of_a_reel_are_the_union() -> None:
    segments = [seg("a", 5, 6), seg("b", 0, 2), seg("c", 1, 3)]
    request = CutRequest(folder=Path("x"), reel=True, padding_seconds=0.5)
    assert [(s.start, s.end, len(s.segments)) for s in spans_of(segments, request, 6.2)] == [
        (0.0, 3.5, 2),
        (4.5, 6.2, 1),
    ]
