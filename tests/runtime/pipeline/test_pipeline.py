"""From a video file to segments, with a model that knows bright from dark."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from fakes import BrightnessBackend, brightness_member
from hypothesis import given, settings
from hypothesis import strategies as st
from media import counted, cut, plain, write_levels, write_video

from tsm_runtime.backends.base import Scores
from tsm_runtime.clips.builder import ClipBatch
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.errors import RunError, UsageError, VideoError
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.prefetch import Ended, Prefetcher
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import Result
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.reader import VideoReader

DARK, GREY, BRIGHT = 20, 128, 235

SCENE = [(DARK, 1.0), (GREY, 0.5), (BRIGHT, 1.5), (DARK, 0.5), (GREY, 1.0), (BRIGHT, 0.6)]
FOUND = [("dark", 0.0, 1.0), ("bright", 1.5, 3.0), ("dark", 3.0, 3.5), ("bright", 4.5, 5.0)]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5.1 s of dark, grey and bright: `FOUND` at t = 0.5."""
    return write_levels(tmp_path_factory.mktemp("media") / "scene.mp4", SCENE)


def found_in(result: Result) -> list[tuple[str, float, float]]:
    return [(s.label, s.start_seconds, s.end_seconds) for s in result.segments]


# --- results --------------------------------------------------------------------------------------


def test_a_video_gives_its_segments(video: Path) -> None:
    member = brightness_member()
    result = run(video, member)
    assert found_in(result) == FOUND
    assert all(segment.score > 0.95 for segment in result.segments)
    assert [scene.label for scene in result.scenes] == ["day", "night"]
    assert sum(scene.score for scene in result.scenes) == pytest.approx(1)
    assert result == Result(
        video_id="scene",
        segments=result.segments,
        scenes=result.scenes,
        interval_seconds=0.5,
        num_intervals=10,
        duration_seconds=pytest.approx(5.1, abs=0.03),
        complete=True,
        gaps=(),
        corrupt_frames=0,
        warnings=(),
    )
    assert isinstance(member.backend, BrightnessBackend)
    assert member.backend.batch_sizes == [1] * 10


@pytest.mark.parametrize("batch_size", [3, 8, 100])
def test_the_batch_size_changes_nothing(video: Path, batch_size: int) -> None:
    member = brightness_member()
    assert run(video, member, Options(batch_size=batch_size)) == run(video, brightness_member())
    assert isinstance(member.backend, BrightnessBackend)
    assert sum(member.backend.batch_sizes) == 10
    assert set(member.backend.batch_sizes[:-1]) <= {batch_size}


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_only_sampled_frames_are_converted(
    video: Path, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[float] = []
    original = FrameConverter.__call__
    monkeypatch.setattr(
        FrameConverter, "__call__", lambda self, frame: calls.append(1) or original(self, frame)
    )
    run(video, brightness_member(num_frames=4), Options(batch_size=batch_size))
    assert len(calls) == 10 * 4 + 1  # the last one is of the interval that the end cuts off


def test_segments_below_the_score_are_dropped(video: Path) -> None:
    segments = run(video, brightness_member()).segments
    least = max(segment.score for segment in segments)
    kept = run(video, brightness_member(), Options(min_score=least)).segments
    assert kept == tuple(segment for segment in segments if segment.score >= least)
    assert 0 < len(kept) < len(segments)


def test_a_model_without_scenes(video: Path) -> None:
    class ActionsOnly(BrightnessBackend):
        def infer(self, frames: np.ndarray) -> Scores:
            return super().infer(frames)._replace(scene=None)

    result = run(video, replace(brightness_member(), backend=ActionsOnly(), scene_labels=()))
    assert (found_in(result), result.scenes) == (FOUND, ())


# --- a part of the video --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [
        (0.0, None, FOUND),
        (0.5, 2.0, [("dark", 0.5, 1.0), ("bright", 1.5, 2.0)]),
        (0.4, 2.4, [("dark", 0.5, 1.0), ("bright", 1.5, 2.0)]),
        (2.6, None, [("dark", 3.0, 3.5), ("bright", 4.5, 5.0)]),
        (4.5, 5.0, [("bright", 4.5, 5.0)]),
        (4.5, 1000.0, [("bright", 4.5, 5.0)]),
    ],
)
def test_start_and_end_choose_intervals_of_the_same_grid(
    video: Path, start: float, end: float | None, wanted: list[tuple[str, float, float]]
) -> None:
    options = Options(start_seconds=start, end_seconds=end)
    assert found_in(run(video, brightness_member(), options)) == wanted


@settings(max_examples=25)
@given(start=st.floats(0, 28), length=st.floats(0.5, 8))
def test_a_part_has_the_clips_of_the_whole(long_video: LongVideo, start: float, length: float) -> None:
    end = start + length
    options = Options(start_seconds=start, end_seconds=end)
    clips = clips_in(long_video.path, options)
    assert sorted(clips) == [k for k in range(100) if k * 0.3 > start - 1e-6 and (k + 1) * 0.3 < end + 1e-6]
    for index, frames in clips.items():
        np.testing.assert_array_equal(frames, long_video.clips[index])


@dataclass(frozen=True, repr=False)
class LongVideo:
    path: Path
    clips: dict[int, np.ndarray]


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> LongVideo:
    """30 s whose brightness changes every tenth of a second; one more key frame each second."""
    levels = np.random.default_rng(0).integers(0, 255, 300).tolist()
    path = tmp_path_factory.mktemp("media") / "long.mkv"
    write_levels(path, [(level, 0.1) for level in levels], rate=20)
    return LongVideo(path, clips_in(path, Options()))


def clips_in(path: Path, options: Options) -> dict[int, np.ndarray]:
    with VideoReader(path) as reader:
        batches = list(ClipStream(reader, brightness_member(0.3, 3).spec, options.clips(1)))
    return {int(k): clip for batch in batches for k, clip in zip(batch.indices, batch.frames, strict=True)}


def test_the_end_stops_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "v.mkv", counted(500, step=0))
    read: list[float] = []
    original = VideoReader.frames

    def watched(self: VideoReader, start_seconds: float = 0.0) -> Iterator[object]:
        for frame in original(self, start_seconds):
            read.append(frame.start_seconds)
            yield frame

    monkeypatch.setattr(VideoReader, "frames", watched)
    result = run(path, brightness_member(), Options(end_seconds=2.0))
    assert max(read) == 2.0
    assert result.complete
    assert result.duration_seconds == 2.0
    assert result.num_intervals == 4


def test_a_part_of_a_cut_file_is_complete_where_nothing_is_lost(tmp_path: Path) -> None:
    path = cut(write_video(tmp_path / "v.mkv", counted(500, step=0)), 0.6)
    assert run(path, brightness_member(), Options(end_seconds=2.0)).complete
    assert not run(path, brightness_member(), Options(start_seconds=2.0)).complete


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_seconds": -1.0},
        {"start_seconds": float("nan")},
        {"start_seconds": float("inf")},
        {"start_seconds": 1e300},
        {"end_seconds": 0.0},
        {"end_seconds": float("inf")},
        {"start_seconds": 3.0, "end_seconds": 3.0},
        {"min_score": float("nan")},
        {"min_score": 1.1},
        {"batch_size": 0},
    ],
)
def test_options_check_themselves(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected"):
        Options(**wrong)  # type: ignore[arg-type]


# --- gaps and damage ------------------------------------------------------------------------------


def test_a_gap_is_reported_and_breaks_a_segment(tmp_path: Path) -> None:
    """Dark all the time, but nothing new between 0.8 and 2.2 s: [1.0, 2.0) is not looked at."""
    pts = [*range(0, 801, 40), *range(2200, 3501, 40)]
    path = write_video(tmp_path / "v.mkv", [plain(DARK)] * len(pts), pts=pts)
    result = run(path, brightness_member())
    assert found_in(result) == [("dark", 0.0, 1.0), ("dark", 2.0, 3.5)]
    assert result.gaps == ((0.8, 2.2),)
    assert result.complete
    assert result.warnings == (
        "1 gap without a new frame for longer than an interval of 0.5 s (longest 1.40 s):"
        " intervals without a frame of their own were left out",
    )


def test_a_gap_that_swallows_no_interval_still_breaks_a_segment(tmp_path: Path) -> None:
    pts = [*range(0, 721, 40), *range(1320, 2001, 40)]  # 0.72 to 1.32: frames in [0.5, 1.0) and in [1.0, 1.5)
    path = write_video(tmp_path / "v.mkv", [plain(DARK)] * len(pts), pts=pts)
    assert found_in(run(path, brightness_member())) == [("dark", 0.0, 1.0), ("dark", 1.0, 2.0)]


def test_a_leap_of_ages_takes_no_time(tmp_path: Path) -> None:
    pts = [*range(0, 1001, 40), *range(2_000_000_000, 2_000_002_000, 40)]
    path = write_video(tmp_path / "v.mkv", [plain(DARK)] * len(pts), pts=pts)
    begin = time.monotonic()
    result = run(path, brightness_member())
    assert time.monotonic() - begin < 20
    assert len(result.gaps) == 1
    assert result.segments[0].end_seconds == 1.5


def test_a_header_that_claims_a_year_takes_no_time(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "v.mkv", [(DARK, 1.0)])
    data = path.read_bytes()
    place = data.index(b"\x44\x89\x88") + 3  # Matroska's Duration, eight bytes of float, in milliseconds
    path.write_bytes(data[:place] + struct.pack(">d", 365 * 86_400_000.0) + data[place + 8 :])
    result = run(path, brightness_member())
    assert (result.num_intervals, result.complete) == (2, False)
    assert result.warnings == ("breaks off after 1.00 s of the 31536000.00 s it claims: the file ends early",)


@pytest.mark.parametrize("name", ["v.mkv", "v.mp4"])
def test_a_cut_file_gives_its_first_part_and_says_so(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 48, 64, 3), dtype=np.uint8)
    path = write_video(
        tmp_path / name, noise, container_options={"movflags": "faststart"} if "mp4" in name else {}
    )
    result = run(cut(path, 0.6), brightness_member())
    assert not result.complete
    assert 5 <= result.num_intervals <= 14
    assert result.num_intervals == int(result.duration_seconds / 0.5 + 1e-6)
    assert f"breaks off after {result.duration_seconds:.2f} s of the 8.00 s it claims: " in result.warnings[0]


def test_a_cut_before_the_first_interval_gives_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 48, 64, 3), dtype=np.uint8)
    path = cut(write_video(tmp_path / "v.mkv", noise), 0.05)
    with pytest.raises(
        VideoError, match=r"v\.mkv: breaks off after .* that leaves no whole interval of 0\.5 s"
    ):
        run(path, brightness_member())


def test_too_short_and_nothing_in_the_requested_part(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "v.mp4", [(DARK, 0.4)])
    with pytest.raises(VideoError, match=r"v\.mp4: 0\.400 s long, shorter than one interval of 0\.5 s$"):
        run(path, brightness_member())
    path = write_levels(tmp_path / "w.mp4", [(DARK, 2.0)])
    for window in ({"start_seconds": 5.0}, {"start_seconds": 0.1, "end_seconds": 0.9}):
        with pytest.raises(VideoError, match=r"w\.mp4: no whole interval of 0\.5 s in the requested part"):
            run(path, brightness_member(), Options(**window))


def test_scores_that_are_no_numbers_are_a_failed_run(video: Path) -> None:
    class Nan(BrightnessBackend):
        def infer(self, frames: np.ndarray) -> Scores:
            scores = super().infer(frames)
            return scores._replace(action=scores.action * np.float32("nan"))

    with pytest.raises(RunError, match="scores that are not numbers"):
        run(video, replace(brightness_member(), backend=Nan()))


# --- the thread -----------------------------------------------------------------------------------


def batches(count: int, stopped: threading.Event | None = None) -> Iterator[ClipBatch]:
    dot = ClipSpec(interval_seconds=1.0, num_frames=1, size=1)
    try:
        for number in range(count):
            yield ClipBatch(np.array([number]), np.zeros((1, 1, 1, 1, 3), np.uint8), dot)
    finally:
        if stopped is not None:
            stopped.set()


def decode_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "decode"]


def test_prefetch_gives_all_in_order() -> None:
    with Prefetcher[str, ClipBatch](2) as ahead:
        for key in ("a", "b"):
            ahead.start(key, lambda: batches(50))
        found: dict[str, list[int]] = {"a": [], "b": []}
        while ahead.num_running:
            key, item = ahead.get()
            if not isinstance(item, Ended):
                found[key].append(int(item.indices[0]))
    assert found == {"a": [*range(50)], "b": [*range(50)]}
    assert decode_threads() == []


def test_prefetch_runs_only_a_few_batches_ahead() -> None:
    made: list[int] = []

    def counting() -> Iterator[ClipBatch]:
        for batch in batches(1000):
            made.append(1)
            yield batch

    with Prefetcher[int, ClipBatch](2) as ahead:
        ahead.start(0, counting)
        ahead.get()
        time.sleep(0.2)
        assert len(made) <= 5


def test_an_exception_of_the_thread_comes_after_what_it_gave() -> None:
    class DecodingError(Exception):
        pass

    def breaking() -> Iterator[ClipBatch]:
        yield from batches(3)
        raise DecodingError("broken")

    with Prefetcher[int, ClipBatch](2) as ahead:
        ahead.start(0, breaking)
        assert [isinstance(ahead.get()[1], ClipBatch) for _ in range(3)] == [True] * 3
        _, end = ahead.get()
    assert isinstance(end, Ended)
    assert isinstance(end.error, DecodingError)
    assert decode_threads() == []


def test_leaving_early_ends_the_threads() -> None:
    stopped = [threading.Event(), threading.Event()]
    with Prefetcher[int, ClipBatch](2) as ahead:
        for number, event in enumerate(stopped):
            ahead.start(number, lambda event=event: batches(10**9, event))  # type: ignore[misc]
        ahead.get()
    assert ahead.cancelled.is_set()
    assert decode_threads() == []
    assert all(event.is_set() for event in stopped)


class BreakingBackend(BrightnessBackend):
    def infer(self, frames: np.ndarray) -> Scores:
        raise KeyboardInterrupt


def test_an_interrupt_ends_the_thread_though_no_batch_is_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow decoder that would need half an hour for its next batch."""
    path = write_video(tmp_path / "v.mkv", counted(500, step=0))
    original = VideoReader.frames

    def slow(self: VideoReader, start_seconds: float = 0.0) -> Iterator[object]:
        for frame in original(self, start_seconds):
            if frame.start_seconds > 0.6:
                time.sleep(0.1)
            yield frame

    monkeypatch.setattr(VideoReader, "frames", slow)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(path, replace(brightness_member(), backend=BreakingBackend()))
    assert time.monotonic() - begin < 5
    assert decode_threads() == []


def test_an_error_of_the_decoder_reaches_the_caller(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: FrameConverter, frame: object) -> None:
        raise VideoError("pictures cannot be converted")

    monkeypatch.setattr(FrameConverter, "__call__", broken)
    with pytest.raises(VideoError, match=r"scene\.mp4: pictures cannot be converted"):
        run(video, brightness_member())
    assert decode_threads() == []


def test_progress_is_reported_in_seconds_of_the_video(video: Path) -> None:
    reported: list[tuple[float, float | None]] = []
    run(
        video,
        brightness_member(),
        Options(start_seconds=4.0),
        progress=lambda *seconds: reported.append(seconds),
    )
    assert [done for done, _ in reported] == [4.5, 5.0]
    assert all(claimed == pytest.approx(5.1, abs=0.03) for _, claimed in reported)
