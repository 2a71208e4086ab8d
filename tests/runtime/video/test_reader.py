"""Frames and their times, from videos of many kinds; the pictures that the model sees of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from media import SMOOTH, corners, counted, cut, plain, write_levels, write_video

from tsm_runtime.errors import VideoError
from tsm_runtime.video import choosing
from tsm_runtime.video.clock import Clock
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.reader import VideoReader

MPEG2 = {"codec": "mpeg2video"}
CONTAINERS = [
    ("mp4", {}),
    ("mkv", {}),
    ("ts", {}),
    ("flv", {}),
    ("mov", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    ("webm", {"codec": "libvpx"}),
    ("avi", {}),  # has no presentation times
    ("avi", {"codec": "mpeg4"}),
    ("wmv", {"codec": "wmv2"}),
    ("mpg", MPEG2),
    ("m2v", MPEG2 | {"container_format": "mpeg2video"}),
    ("h264", {"container_format": "h264"}),  # has no times at all
]
all_containers = pytest.mark.parametrize(
    ("suffix", "more"), CONTAINERS, ids=lambda value: value if isinstance(value, str) else value.get("codec")
)


def times_of(path: Path) -> list[float]:
    with VideoReader(path) as reader:
        return [round(frame.start_seconds, 4) for frame in reader.frames()]


def levels_of(path: Path, start_seconds: float = 0.0) -> list[tuple[float, int]]:
    """Time and grey level of each frame."""
    convert = FrameConverter(16)
    with VideoReader(path) as reader:
        frames = reader.frames(start_seconds)
        return [(round(f.start_seconds, 4), int(convert(f.frame)[8, 8, 1])) for f in frames]


def first_picture(path: Path, size: int = 32) -> np.ndarray:
    with VideoReader(path) as reader:
        return FrameConverter(size)(next(reader.frames()).frame)


# --- times ----------------------------------------------------------------------------------------


@all_containers
def test_times_are_even_and_pictures_in_order(tmp_path: Path, suffix: str, more: dict[str, object]) -> None:
    if suffix == "mpg":
        pytest.skip("FFmpeg guesses some times of a program stream, and not all well")
    path = write_video(tmp_path / f"v.{suffix}", counted(60, step=4), **more)
    found = levels_of(path)
    assert [time for time, _ in found] == [round(n / 25, 4) for n in range(60)]
    assert np.abs(np.array([level for _, level in found]) - np.minimum(4 * np.arange(60), 254)).max() <= 6
    with VideoReader(path) as reader:
        assert [*reader.frames()][-1].end_seconds == pytest.approx(2.4, abs=1e-3)
        assert (reader.failure, reader.corrupt_frames) == (None, 0)


@pytest.mark.parametrize("first", [0, 7000, -400])
def test_zero_is_the_first_frame(tmp_path: Path, first: int) -> None:
    path = write_video(
        tmp_path / "v.mkv",
        counted(5),
        pts=[first + 40 * n for n in range(5)],
        container_options={"avoid_negative_ts": "disabled"},
    )
    assert times_of(path) == [0, 0.04, 0.08, 0.12, 0.16]


def test_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    pts = [0, 10, 50, 51, 400, 1400, 1433]
    path = write_video(tmp_path / "v.mkv", counted(7), pts=pts)
    assert times_of(path) == [time / 1000 for time in pts]


def test_an_edit_list_cuts_the_beginning(tmp_path: Path) -> None:
    """A file cut with -ss and copied: the pictures before the cut are decoded, but not presented."""
    whole = write_video(tmp_path / "whole.mp4", counted(50, step=4))
    path = tmp_path / "v.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        shift = 10 * 512  # ten frames of 1/25 s
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                target.mux(packet)
    found = levels_of(path)
    assert [time for time, _ in found] == [round(n / 25, 4) for n in range(40)]
    assert found[0][1] == pytest.approx(40, abs=4)
    with VideoReader(path) as reader:
        assert len([*reader.frames()]) == 40
        assert reader.failure is None


# --- seeking --------------------------------------------------------------------------------------


@all_containers
@pytest.mark.parametrize("start_seconds", [2.1, 5.0, 7.96])
def test_seeking_gives_the_frames_of_the_full_run(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, more: dict[str, object], start_seconds: float
) -> None:
    path = long_video(tmp_path_factory, suffix, more)
    full, part = levels_of(path), levels_of(path, start_seconds)
    assert part == full[-len(part) :]
    assert part[0][0] <= start_seconds


LONG: dict[str, Path] = {}


def long_video(factory: pytest.TempPathFactory, suffix: str, more: dict[str, object]) -> Path:
    key = f"{suffix} {more.get('codec')}"
    if key not in LONG:
        LONG[key] = write_video(factory.mktemp("long") / f"v.{suffix}", counted(200, step=1), **more)
    return LONG[key]


def test_seeking_saves_decoding(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = long_video(tmp_path_factory, "mp4", {})
    assert levels_of(path, 7.5)[0][0] >= 5.0


def test_an_index_that_lands_too_late_is_not_believed(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = long_video(tmp_path_factory, "mp4", {})
    full = levels_of(path)
    monkeypatch.setattr(Clock, "ticks", lambda clock, seconds: 12_800 * 7)
    assert levels_of(path, 5.0) == full


def test_a_landing_without_key_frame_is_not_believed(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = long_video(tmp_path_factory, "mp4", {})
    full = levels_of(path)
    monkeypatch.setattr(Clock, "is_anchor", lambda clock, timed, seconds: False)
    assert levels_of(path, 5.0) == full


def test_seeking_in_the_hard_files(shared_data: Path) -> None:
    for path in sorted((shared_data / "hard").iterdir()):
        try:
            full = levels_of(path)
        except VideoError:
            continue
        if full and full[-1][0] > 2.2:
            part = levels_of(path, 0.8 * full[-1][0])
            assert part == full[-len(part) :], path.name


def test_counts_after_a_seek_are_of_that_part_only(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = long_video(tmp_path_factory, "mkv", {})
    with VideoReader(path) as reader:
        assert len([*reader.frames(6.0)]) < 150
        assert (reader.failure, reader.corrupt_frames) == (None, 0)


# --- files that break off -------------------------------------------------------------------------


FASTSTART = {"container_options": {"movflags": "faststart"}}
FRAGMENTS = {"container_options": {"movflags": "frag_keyframe+empty_moov"}}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("v.mp4", FASTSTART),
        ("v.mp4", FASTSTART | {"silence_seconds": 8.0}),
        ("v.mp4", FRAGMENTS),
        ("v.mkv", {}),
        ("v.flv", {}),
        ("v.avi", {"codec": "mpeg4"}),
    ],
)
@pytest.mark.parametrize("start_seconds", [0.0, 2.5])
def test_a_file_that_was_cut_is_reported(
    tmp_path: Path, name: str, more: dict[str, object], start_seconds: float
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 48, 64, 3), dtype=np.uint8)
    path = cut(write_video(tmp_path / name, noise, **more), 0.6)
    with VideoReader(path) as reader:
        frames = [*reader.frames(start_seconds)]
        assert 2.5 < frames[-1].end_seconds < 7
        assert reader.failure is not None


def test_a_movie_without_its_index_cannot_be_opened(tmp_path: Path) -> None:
    path = cut(write_video(tmp_path / "v.mp4", counted(50)), 0.6)
    with pytest.raises(VideoError, match=r"v\.mp4: not a readable video"):
        VideoReader(path)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "avi", "flv"])
def test_sound_that_goes_on_is_no_break(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"v.{suffix}", counted(50), silence_seconds=6.0)
    with VideoReader(path) as reader:
        assert len([*reader.frames()]) == 50
        assert reader.failure is None


def test_an_error_while_reading_still_gives_what_the_decoder_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "v.mkv", counted(50))
    with VideoReader(path) as reader:
        container = reader._container
        monkeypatch.setattr(reader, "_container", BreakingContainer(container, after=20))
        assert len([*reader.frames()]) == 20
        assert reader.failure == "Input/output error"


class BreakingContainer:
    """A container whose disk fails after some packets."""

    def __init__(self, container: av.container.InputContainer, after: int) -> None:
        self._container, self._after = container, after

    def demux(self) -> Iterable[av.Packet]:
        for number, packet in enumerate(self._container.demux()):
            if number == self._after:
                raise av.error.OSError(5, "Input/output error")
            yield packet

    def close(self) -> None:
        self._container.close()


def test_a_bad_packet_costs_its_pictures_only(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", counted(50), options=SMOOTH | {"x264-params": "keyint=5"})
    with VideoReader(path) as reader, av.open(str(path)) as container:
        packets = list(container.demux(video=0))
        packets[20] = av.Packet(bytes(range(50)))
        reader._packets = lambda: packets[:-1]  # type: ignore
        frames = [*reader.frames()]
        assert 44 <= len(frames) <= 49
        assert frames[-1].start_seconds == pytest.approx(1.96)
        assert reader.corrupt_frames >= 1


# --- what cannot be read --------------------------------------------------------------------------


def test_what_is_no_video_is_reported_with_its_name(tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(VideoError) as caught:
            VideoReader(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        return message.removeprefix(f"{path}: ")

    assert refused(tmp_path / "nothing.mp4") == "no such file"
    assert refused(tmp_path) == "is a folder, not a video"
    assert "not a readable video" in refused(tmp_path / ("x" * 300 + ".mp4"))
    for name, content, words in [
        ("empty.mp4", b"", "empty file"),
        ("text.mp4", b"not a video\n" * 100, "not a readable video"),
        ("random.mp4", np.random.default_rng(3).bytes(100_000), "not a readable video"),
    ]:
        (tmp_path / name).write_bytes(content)
        assert words in refused(tmp_path / name)
    sound = write_video(tmp_path / "both.mkv", counted(25), silence_seconds=1.0)
    with av.open(str(sound)) as source, av.open(str(tmp_path / "sound.mka"), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert refused(tmp_path / "sound.mka") == "no video stream (the file holds audio)"


def test_a_picture_that_would_fill_the_memory_is_refused(shared_data: Path) -> None:
    with pytest.raises(VideoError, match="12336 x 12336 are too large"):
        VideoReader(shared_data / "hard" / "libwebm__invalid_vp9_bitstream-bug_1416.webm")


@pytest.mark.parametrize(
    ("pixels", "threads"), [(320 * 240, 1), (1920 * 1080, 0), (3840 * 2160, 7), (7680 * 4320, 1)]
)
def test_large_and_small_pictures_get_few_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int, threads: int
) -> None:
    path = write_video(tmp_path / "v.mkv", counted(2))
    for limit in ("_PIXELS_IN_THREADS", "_PIXELS_FOR_THREADS"):
        monkeypatch.setattr(choosing, limit, getattr(choosing, limit) * 64 * 48 // pixels)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    with VideoReader(path) as reader:
        assert reader._stream.codec_context.thread_count == threads


@pytest.mark.parametrize(
    "name", ["-v.mp4", "a:b.mp4", "http:v.mp4", "a\nb.mp4", "[b]%d.mp4", b"\xff\xfe.mp4"]
)
def test_odd_names_are_only_names(tmp_path: Path, name: str | bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(os.fsdecode(name))
    monkeypatch.chdir(tmp_path)
    write_video(Path("v.mp4"), counted(3)).rename(path)
    assert len(times_of(path)) == 3


# --- which stream ---------------------------------------------------------------------------------


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    source_path = write_video(tmp_path / "v.mp4", counted(25), silence_seconds=1.0)
    cover = write_video(
        tmp_path / "cover.mkv", [plain((255, 0, 0), (320, 240))], codec="mjpeg", pixel_format="yuvj420p"
    )
    path = tmp_path / "with_cover.mp4"
    with (
        av.open(str(source_path)) as source,
        av.open(str(cover)) as picture,
        av.open(str(path), "w") as target,
    ):
        still = target.add_stream_from_template(picture.streams.video[0])
        still.disposition = av.stream.Disposition.attached_pic
        video = target.add_stream_from_template(source.streams.video[0])
        for packets, stream in ((picture.demux(video=0), still), (source.demux(video=0), video)):
            for packet in packets:
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
    assert len(times_of(path)) == 25


def test_the_best_of_several_streams_is_taken(shared_data: Path) -> None:
    with VideoReader(shared_data / "hard" / "torchcodec__nasa_13013.mp4") as reader:
        assert next(reader.frames()).frame.width == 480


# --- pictures -------------------------------------------------------------------------------------


COLORS = [(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 100, 50)]


@pytest.mark.parametrize(
    ("pixel_format", "color"),
    [
        ("yuv420p", None),
        ("yuv420p", ("ITU709", "MPEG")),
        ("yuv420p", ("ITU709", "JPEG")),
        ("yuvj420p", None),
        ("yuv444p10le", ("ITU709", "MPEG")),
    ],
)
@pytest.mark.parametrize("wanted", COLORS)
def test_colours_come_out_as_they_went_in(
    tmp_path: Path, pixel_format: str, color: tuple[str, str] | None, wanted: tuple[int, int, int]
) -> None:
    path = write_video(tmp_path / "v.mkv", [plain(wanted)] * 2, pixel_format=pixel_format, color=color)
    assert np.abs(first_picture(path)[16, 16].astype(int) - wanted).max() <= 4


def test_the_full_range_file_is_not_washed_out(shared_data: Path) -> None:
    path = shared_data / "hard" / "torchcodec__bt709_full_range.mp4"
    with VideoReader(path) as reader:
        frame = next(reader.frames()).frame
        luma = frame.to_ndarray()[: frame.height].mean()
        picture = FrameConverter(128)(frame).astype(float)
    weighted = (picture @ [0.2126, 0.7152, 0.0722]).mean()  # BT.709; full range: luma as it is
    assert weighted == pytest.approx(luma, abs=2)


@pytest.mark.parametrize("size", [(63, 47), (161, 121), (2, 2), (1, 1), (16, 400)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_video(
        tmp_path / "v.mkv", [plain((200, 100, 50), size)] * 2, pixel_format="yuv444p", codec="ffv1"
    )
    assert np.abs(first_picture(path).astype(int) - (200, 100, 50)).max() <= 3


def test_gray(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", [plain(90)] * 2, pixel_format="gray", codec="ffv1")
    assert np.abs(first_picture(path).astype(int) - 90).max() <= 1


@pytest.mark.parametrize(
    ("degrees", "left_right", "up_down"), [*product([0, 90, 180, 270], [False, True], [False, True])]
)
def test_the_display_matrix_is_obeyed(tmp_path: Path, degrees: int, left_right: bool, up_down: bool) -> None:
    path = write_video(tmp_path / "v.mp4", [corners()] * 2, rotation=(degrees, left_right, up_down))
    wanted = np.rot90(corners(), degrees // 90)
    wanted = wanted[:, ::-1] if left_right else wanted
    wanted = wanted[::-1] if up_down else wanted
    assert np.abs(first_picture(path, 64).astype(int) - wanted).mean() < 8


def test_the_phone_video_stands_upright(shared_data: Path) -> None:
    picture = first_picture(shared_data / "hard" / "decord__video_90.mov", 96).astype(float)
    with VideoReader(shared_data / "hard" / "decord__video_90.mov") as reader:
        frame = next(reader.frames()).frame
        assert frame.rotation == -90
        stored = frame.to_ndarray(format="rgb24", width=96, height=96)
    np.testing.assert_array_equal(picture, np.rot90(stored, -1))


def test_a_kind_of_picture_that_cannot_be_converted_is_a_video_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoReformatter:
        def reformat(self, *_: object, **__: object) -> None:
            raise av.error.ArgumentError(22, "Invalid argument")

    monkeypatch.setattr("tsm_runtime.video.convert.VideoReformatter", NoReformatter)
    with pytest.raises(VideoError, match="32 x 16 nv12 cannot be converted"):
        FrameConverter(16)(av.VideoFrame(32, 16, "nv12"))


def test_side_data_that_pyav_does_not_know_leaves_the_turn(shared_data: Path) -> None:
    with VideoReader(shared_data / "hard" / "mp4ff__stereo_spatial.mp4") as reader:
        frame = next(reader.frames()).frame
    with pytest.raises(ValueError, match="not a valid Type"):
        len(frame.side_data)
    stored = frame.to_ndarray(format="rgb24", width=16, height=16)
    np.testing.assert_array_equal(FrameConverter(16)(frame), stored)


def test_a_frame_is_resized_once_by_bilinear(tmp_path: Path) -> None:
    """Pins the pixels: training and deployment rest on this one function."""
    path = write_video(tmp_path / "v.mkv", [corners()] * 2, codec="ffv1")
    with VideoReader(path) as reader:
        frame = next(reader.frames()).frame
    wanted = VideoReformatter().reformat(frame, 24, 24, "rgb24", interpolation="BILINEAR").to_ndarray()
    np.testing.assert_array_equal(FrameConverter(24)(frame), wanted)


def test_progress_knows_the_claimed_length(tmp_path: Path) -> None:
    with VideoReader(write_levels(tmp_path / "v.mp4", [(10, 2.0)])) as reader:
        assert reader.claimed_seconds == pytest.approx(2.0)
