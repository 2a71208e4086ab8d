"""The video with its labels burnt in, checked by decoding it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from entry import PEAK_KILOBYTES
from fakes import result_of, seg
from media import corners, counted, plain, write_video

from tsm_runtime.errors import BackendError, RunError, UsageError, VideoError
from tsm_runtime.outputs import overlay
from tsm_runtime.outputs.overlay import OverlaySink, check_overlay, write_overlay
from tsm_runtime.outputs.painter import Painter
from tsm_runtime.results import Result, Segment
from tsm_runtime.video.finding import VideoInput
from tsm_runtime.video.reader import VideoReader

pytest.importorskip("PIL")

GREY = 120
UNEVEN = [0, 40, 100, 400, 440, 500, 900, 1000, 1040, 1500, 1960, 2000, 2040, 2600]  # milliseconds
TWO = (seg("hug", 0.4, 1.0, 0.75), seg("wave", 0.9, 2.0))


def decoded(path: Path) -> list[tuple[float, npt.NDArray[np.int16]]]:
    with VideoReader(path) as reader:
        return [
            (f.start_seconds, f.frame.to_ndarray(format="rgb24").astype(np.int16)) for f in reader.frames()
        ]


def times(path: Path) -> list[float]:
    with VideoReader(path) as reader:
        return [frame.start_seconds for frame in reader.frames()]


def lasting(seconds: float, *found: Segment) -> Result:
    return replace(result_of(*found), duration_seconds=seconds)


def active(found: Sequence[Segment], seconds: float) -> list[str]:
    return [s.label for s in found if s.start_seconds <= seconds < s.end_seconds]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_labels_are_on_exactly_with_their_segments_and_times_stay(tmp_path: Path, suffix: str) -> None:
    size = (160, 120)
    video = write_video(tmp_path / "v.mp4", [plain(GREY, size) for _ in UNEVEN], pts=UNEVEN)
    assert write_overlay(video, lasting(2.64, *TWO), tmp_path / f"out{suffix}") == ()
    frames = decoded(tmp_path / f"out{suffix}")
    assert [round(1000 * seconds) for seconds, _ in frames] == UNEVEN
    strip = Painter(*size, TWO, 2.64).strip_height
    shown: dict[tuple[str, ...], npt.NDArray[np.int16]] = {}
    for seconds, picture in frames:
        assert picture.shape == (120, 160, 3)
        labels = tuple(active(TWO, seconds))
        above, region = picture[:60], picture[60 : 116 - strip]  # the coding smears some rows of the strip
        assert np.abs(above - GREY).max() <= 3
        assert (np.abs(region - GREY).max() > 60) == bool(labels), seconds
        first = shown.setdefault(labels, region)
        assert np.abs(region - first).mean() < 1  # the same labels look the same
    assert set(shown) == {(), ("hug",), ("hug", "wave"), ("wave",)}
    assert np.abs(shown["hug",] - shown["wave",]).max() > 60
    with VideoReader(video) as before, VideoReader(tmp_path / f"out{suffix}") as after:
        ends = [list(reader.frames())[-1].end_seconds for reader in (before, after)]
    assert ends[1] == pytest.approx(ends[0], abs=0.002)


def test_the_time_line_shows_the_segments_and_where_we_are() -> None:
    found = (seg("hug", 2, 4), seg("wave", 6, 8))
    painter = Painter(500, 240, found, 10.0)
    picture = np.full((240, 500, 3), 50, np.uint8)
    painter.paint(picture, 5.0)
    strip = picture[-painter.strip_height :].astype(int)
    colored = (strip.max(axis=2) - strip.min(axis=2) > 40).all(axis=0)  # neither grey, black nor white
    assert np.flatnonzero(colored).tolist() == [*range(100, 200), *range(300, 400)]
    assert not np.array_equal(strip[0, 150], strip[0, 350])
    assert np.flatnonzero((strip == 255).all(axis=(0, 2))).tolist() == [250]
    assert (picture[: -painter.strip_height] == 50).all()  # nothing is on


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_text_is_readable_over_any_picture(grey: int) -> None:
    picture = np.full((240, 320, 3), grey, np.uint8)
    painter = Painter(320, 240, [seg("hug", 0, 9)], 10.0)
    painter.paint(picture, 1.0)
    panel = picture[: -painter.strip_height]
    panel = panel[(panel != grey).any(axis=(1, 2))]
    text = (panel == 255).all(axis=2)
    assert 30 < text[:, 20:120].sum() < 1500  # the strokes of letters: white
    assert np.median(panel[:, 20:60]) <= 90  # what they stand on: dark, also over white


def test_text_grows_with_the_picture_and_the_score_stays_in_sight() -> None:
    def rows(size: tuple[int, int], label: str) -> npt.NDArray[np.bool_]:
        picture = np.zeros((size[1], size[0], 3), np.uint8) + np.uint8(200)
        painter = Painter(*size, [seg(label, 0, 9)], 10.0)
        painter.paint(picture, 1.0)
        return (picture[: -painter.strip_height] != 200).any(axis=2)

    small, large = rows((320, 240), "hug"), rows((1280, 960), "hug")
    assert large.any(axis=1).sum() == pytest.approx(4 * small.any(axis=1).sum(), rel=0.15)
    assert large.any(axis=0).sum() == pytest.approx(4 * small.any(axis=0).sum(), rel=0.15)
    assert rows((320, 240), "W" * 1000).any(axis=0).sum() <= 320


def test_many_labels_leave_half_of_the_picture_free() -> None:
    found = [seg(f"label {n}", 0, 9) for n in range(40)]
    picture = np.full((240, 320, 3), 200, np.uint8)
    Painter(320, 240, found, 10.0).paint(picture, 1.0)
    changed = (picture != 200).any(axis=(1, 2))
    assert not changed[:100].any()
    assert changed[150:].all()


@pytest.mark.parametrize(
    "label", ["日本語 😀", "two\nlines\t", "<b>&amp;", "\x00\u202e", "\udcff", "e\u0301", "W" * 5000]
)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (33, 17), (5, 300), (300, 5)])
def test_any_label_on_any_size(label: str, size: tuple[int, int]) -> None:
    found = [seg(label, 0, 1), seg("b", 0, 1)]
    picture = np.full((size[1], size[0], 3), 99, np.uint8)
    painter = Painter(*size, found, 2.0)
    for seconds in (0.0, 0.5, 1.0, 2.0, 5.0):
        painter.paint(picture, seconds)
    assert (picture != 99).any()  # the time line at least


@pytest.mark.parametrize("size", [(2, 2), (33, 17), (6, 201), (201, 6)])
def test_odd_and_tiny_sizes_get_even(tmp_path: Path, size: tuple[int, int]) -> None:
    pictures = [plain(GREY, size) for _ in range(5)]
    video = write_video(tmp_path / "v.mkv", pictures, codec="ffv1", pixel_format="yuv444p")
    write_overlay(video, lasting(0.2, seg("hug", 0, 0.12)), tmp_path / "out.mp4")
    frames = decoded(tmp_path / "out.mp4")
    assert len(frames) == 5
    assert frames[0][1].shape == (size[1] + size[1] % 2, size[0] + size[0] % 2, 3)


def test_a_turned_video_comes_out_upright(tmp_path: Path) -> None:
    white_upper_left = corners((96, 64))
    video = write_video(tmp_path / "v.mp4", [white_upper_left] * 3, rotation=(90, False, False))
    write_overlay(video, lasting(0.12), tmp_path / "out.mp4")
    with VideoReader(tmp_path / "out.mp4") as reader:
        (frame, *_) = [timed.frame for timed in reader.frames()]
    assert (frame.width, frame.height, frame.rotation) == (64, 96, 0)
    picture = frame.to_ndarray(format="rgb24")
    lower_left, upper_left, right = picture[70:80, 8:24], picture[8:24, 8:24], picture[8:80, 40:60]
    # A quarter turn counter-clockwise: upper left goes to lower left, upper right to upper left.
    assert abs(int(lower_left.mean()) - 255) < 6
    assert abs(int(upper_left.mean()) - 128) < 6
    assert right.mean() < 6


def test_pixels_that_are_not_square_stay_so(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(plain(GREY), "rgb24")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    write_overlay(path, lasting(0.12), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio * 3 == 4


# --- sound and time -------------------------------------------------------------------------------


def sound_packets(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        return [(float((p.pts or 0) * p.time_base), bytes(p)) for p in packets]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_is_copied(tmp_path: Path, suffix: str) -> None:
    video = write_video(tmp_path / "v.mkv", counted(50), silence_seconds=2.0)
    assert write_overlay(video, lasting(2.0), tmp_path / f"out{suffix}") == ()
    before, after = sound_packets(video), sound_packets(tmp_path / f"out{suffix}")
    assert [data for _, data in before] == [data for _, data in after]
    assert len(before) > 10
    shift = times(tmp_path / f"out{suffix}")[0]
    assert [t for t, _ in after] == pytest.approx([t - shift for t, _ in before], abs=0.03)


def write_with_sound(path: Path, codec: str) -> Path:
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound: Any = out.add_stream(codec, rate=8000, layout="mono")
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(plain(GREY), "rgb24")
            frame.pts = number
            out.mux(stream.encode(frame))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.uint8), "u8", "mono")
        samples.sample_rate, samples.pts = 8000, 0
        out.mux(sound.encode(samples))
        out.mux(sound.encode())
        out.mux(stream.encode())
    return path


def test_sound_that_does_not_fit_is_left_out_and_reported(tmp_path: Path) -> None:
    video = write_with_sound(tmp_path / "v.mkv", "pcm_u8")
    assert write_overlay(video, lasting(0.4), tmp_path / "out.mp4") == (
        "without the sound: pcm_u8 does not go into this container",
    )
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    assert len(times(tmp_path / "out.mp4")) == 10
    assert write_overlay(video, lasting(0.4), tmp_path / "out.mkv") == ()


def test_time_begins_with_the_first_frame(tmp_path: Path) -> None:
    video = write_video(
        tmp_path / "v.ts", counted(30), silence_seconds=1.2, container_options={"output_ts_offset": "3"}
    )
    with av.open(str(video)) as container:
        assert container.start_time > 1_000_000  # more than a second, as MPEG-TS has it
    write_overlay(video, lasting(1.2, seg("hug", 0, 1)), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = [frame.time for frame in container.decode(video=0)]
    assert frames == pytest.approx([n / 25 for n in range(30)], abs=1e-4)
    sound, original = sound_packets(tmp_path / "out.mp4"), sound_packets(video)
    with av.open(str(video)) as container:
        zero = next(container.decode(video=0)).time
    assert sound[0][0] == pytest.approx(original[0][0] - zero, abs=0.05)


# --- whole or not at all --------------------------------------------------------------------------


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "v.mp4", counted(10))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("error", "expected"), [(OSError(28, "No space left on device"), RunError), (KeyboardInterrupt(), None)]
)
def test_a_failed_overlay_leaves_what_was_there(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, expected: Any
) -> None:
    (tmp_path / "out.mp4").write_bytes(b"before")
    calls: list[float] = []

    def fail(_: Painter, picture: object, seconds: float) -> None:
        calls.append(seconds)
        if len(calls) == 5:
            raise error

    monkeypatch.setattr(Painter, "paint", fail)
    with pytest.raises(expected or KeyboardInterrupt):
        write_overlay(video, lasting(0.4), tmp_path / "out.mp4")
    assert names(tmp_path) == ["out.mp4", "v.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"before"


def test_a_video_that_cannot_be_read_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(VideoError, match="not a readable video"):
        write_overlay(tmp_path / "v.mp4", lasting(1), tmp_path / "out.mp4")
    assert names(tmp_path) == ["v.mp4"]


def test_results_are_written_before_the_overlay_and_also_without(
    tmp_path: Path, video: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    order: list[str] = []

    class Inner:
        def add(self, result: Result) -> None:
            order.append(result.video_id)

        def close(self) -> None:
            order.append("closed" if not (tmp_path / "out.mp4").exists() else "late")

    sink = OverlaySink(Inner(), {"clip": video}, tmp_path / "out.mp4")
    sink.add(lasting(0.4, seg("hug", 0, 0.2)))
    sink.close()
    assert order == ["clip", "closed"]
    assert len(times(tmp_path / "out.mp4")) == 10
    OverlaySink(Inner(), {}, tmp_path / "none.mp4").close()  # the video gave no result
    assert not (tmp_path / "none.mp4").exists()
    assert capfd.readouterr().err == ""


# --- what is refused before the run ---------------------------------------------------------------


def test_wrong_overlays_are_refused(tmp_path: Path, video: Path) -> None:
    one = [VideoInput(video, "v")]
    check_overlay(tmp_path / "out.mp4", one, None)
    for path, inputs, output, words in (
        (
            tmp_path / "out.mp4",
            [*one, VideoInput(tmp_path / "w.mp4", "w")],
            None,
            "one file for 2 videos; give a folder",
        ),
        (tmp_path / "out.avi", one, None, "ends in .mp4"),
        (tmp_path / "no" / "out.mp4", one, None, "there is no folder"),
        (video, one, None, "would replace the video"),
        (tmp_path / "out.mp4", one, str(tmp_path / "out.mp4"), "would replace the video or --output"),
    ):
        with pytest.raises(UsageError, match=words):
            check_overlay(path, inputs, output)


def test_without_pillow_the_extra_is_named(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(BackendError, match=r"drawing needs Pillow: pip install 'tsm-tal\[report\]'"):
        check_overlay(tmp_path / "out.mp4", [VideoInput(video, "v")], None)


PEAK = f"""
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fakes import result_of, seg
from tsm_runtime.outputs.overlay import write_overlay
write_overlay(Path(sys.argv[2]), result_of(seg("hug", 1, 5)), Path(sys.argv[3]))
print({PEAK_KILOBYTES})
"""


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    def peak_kilobytes(num_frames: int) -> int:
        pictures = (plain(n % 250, (160, 120)) for n in range(num_frames))
        path = write_video(tmp_path / f"{num_frames}.mkv", pictures, silence_seconds=num_frames / 25)
        command = [
            sys.executable,
            "-c",
            PEAK,
            str(Path(__file__).parents[1] / "doubles"),
            str(path),
            str(tmp_path / "out.mp4"),
        ]
        done = subprocess.run(command, stdout=-1, env=dict(os.environ), check=True)
        return int(done.stdout)

    # The 400 pictures more are 12 MB as the encoder has them, 23 MB as RGB.
    assert peak_kilobytes(550) - peak_kilobytes(150) < 8_000


def test_a_folder_gets_a_file_per_video_with_one_colour_per_label(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Inner:
        def add(self, result: Result) -> None: ...
        def fail(self, video_id: str, reason: str) -> None: ...
        def close(self) -> None: ...

    chosen: list[Mapping[str, int]] = []
    write = overlay.write_overlay

    def watched(path: Path, result: Result, target: Path, slots: Mapping[str, int]) -> tuple[str, ...]:
        chosen.append(slots)
        return write(path, result, target, slots)

    monkeypatch.setattr(overlay, "write_overlay", watched)
    inputs = [VideoInput(video, "a"), VideoInput(video, "sub/b"), VideoInput(tmp_path / "none.mp4", "c")]
    check_overlay(tmp_path / "out", inputs, None)
    sink = OverlaySink(Inner(), {each.video_id: each.path for each in inputs}, tmp_path / "out")
    for name, label in (("a", "hug"), ("sub/b", "wave"), ("c", "hug")):
        sink.add(replace(lasting(0.4, seg(label, 0, 0.2)), video_id=name))
    with pytest.raises(RunError, match=r"1 overlay not written; the first: .*none"):
        sink.close()
    assert [len(times(tmp_path / "out" / name)) for name in ("a.mp4", "sub/b.mp4")] == [10, 10]
    assert [set(slots) for slots in chosen] == [{"hug", "wave"}] * 3


def test_a_folder_of_overlays_never_replaces_a_video(tmp_path: Path, video: Path) -> None:
    with pytest.raises(UsageError, match=r"would replace .*; choose another folder"):
        check_overlay(video.parent, [VideoInput(video, video.stem)], None)
    with pytest.raises(UsageError, match="leads out of the folder"):
        check_overlay(tmp_path / "out", [VideoInput(video, "../x")], None)
