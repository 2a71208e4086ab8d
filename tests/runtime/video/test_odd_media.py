"""Interlaced and anamorphic video, a size that changes on the way, damage, and headers that lie."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from entry import PEAK_KILOBYTES
from fakes import ACTIONS, SCENES, BrightnessBackend
from media import SMOOTH, corners, counted, plain, write_video

from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import VideoError
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.run import run
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.reader import VideoReader

NO_B_FRAMES = {"preset": "ultrafast", "tune": "zerolatency"}
SPEC = ClipSpec(interval_seconds=0.5, num_frames=4, size=16)


def member() -> Member:
    return Member(backend=BrightnessBackend(), spec=SPEC, action_labels=ACTIONS, scene_labels=SCENES)


def lines_of(height: int, width: int = 64) -> np.ndarray:
    """White above, black below: what a resize must not mix up."""
    picture = plain(0, (width, height))
    picture[: height // 2] = 255
    return picture


# --- interlaced, anamorphic -----------------------------------------------------------------------


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_interlaced_pictures_are_resized_as_they_are_stored(tmp_path: Path, order: str) -> None:
    """No deinterlacing: both fields stay in a picture, at their lines, one picture for each pair."""
    options = dict(SMOOTH) | {"x264-params": f"{order}=1:keyint=25:bframes=2"}
    path = write_video(tmp_path / "v.mp4", [lines_of(96)] * 10, options=options)
    with VideoReader(path) as reader:
        frames = [*reader.frames()]
    assert [round(frame.start_seconds, 4) for frame in frames] == [round(n / 25, 4) for n in range(10)]
    assert frames[0].frame.interlaced_frame
    picture = FrameConverter(32)(frames[0].frame).astype(int)
    assert picture[:14].min() > 245
    assert picture[18:].max() < 10


@pytest.mark.parametrize("ratio", [Fraction(16, 9), Fraction(1, 2)])
def test_pixels_that_are_not_square_do_not_matter(tmp_path: Path, ratio: Fraction) -> None:
    """All of the stored picture becomes the square that the model sees, whatever its pixels' shape."""
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=dict(SMOOTH))
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = ratio
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(corners((96, 64)), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with VideoReader(path) as reader:
        frame = next(reader.frames()).frame
        assert reader._stream.codec_context.sample_aspect_ratio == ratio
    picture = FrameConverter(32)(frame).astype(int)
    assert np.abs(picture[4:12, 4:12] - 255).max() < 8
    assert np.abs(picture[4:12, 20:28] - 128).max() < 8
    assert picture[20:28].max() < 8


# --- a size that changes --------------------------------------------------------------------------


def test_a_size_that_changes_on_the_way(tmp_path: Path) -> None:
    """As where a broadcast switches: one stream, two sizes; every picture is all of its own."""
    paths = []
    for number, (size, level) in enumerate([((64, 48), 230), ((160, 120), 20), ((64, 48), 230)]):
        pts = [1000 * number + 40 * n for n in range(25)]
        pictures = [plain(level, size)] * 25
        paths.append(write_video(tmp_path / f"{number}.ts", pictures, pts=pts, options=NO_B_FRAMES))
    path = tmp_path / "v.ts"
    path.write_bytes(b"".join(each.read_bytes() for each in paths))
    with VideoReader(path) as reader:
        frames = [(round(f.start_seconds, 2), f.frame.width) for f in reader.frames()]
    assert {width for _, width in frames} == {64, 160}
    assert [time for time, _ in frames] == sorted(time for time, _ in frames)
    result = run(path, member())
    found = [(s.label, s.start_seconds, s.end_seconds) for s in result.segments]
    assert found == [("bright", 0, 1), ("dark", 1, 2), ("bright", 2, 3)]


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["ts", "mkv", "mp4"])
def test_a_corrupt_middle_is_counted_and_the_rest_is_found(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 60, (250, 48, 64, 3), dtype=np.uint8)
    noise[200:] += 180  # the last two seconds are bright
    path = write_video(tmp_path / f"v.{suffix}", noise, options=dict(SMOOTH) | {"crf": "20"})
    data = bytearray(path.read_bytes())
    start = int(0.4 * len(data))
    stop = start + len(data) // 10
    data[start:stop] = np.random.default_rng(1).bytes(stop - start)
    path.write_bytes(data)
    result = run(path, member())
    ((start_seconds, end_seconds),) = result.gaps
    assert 3 < start_seconds < 5 <= end_seconds < 6
    assert result.corrupt_frames > 0
    assert any("corrupt or misplaced" in line for line in result.warnings)
    assert any(line.startswith("1 gap without a new frame") for line in result.warnings)
    if suffix != "mkv":  # whose reader may lose its place in the file
        assert ("bright", 8.0) in [(s.label, round(s.start_seconds, 1)) for s in result.segments]
        assert result.duration_seconds == pytest.approx(10, abs=0.1)


def test_a_little_damage_to_a_transport_stream_is_counted(tmp_path: Path) -> None:
    """Its reader passes over what is no packet, and the decoder sees nothing wrong: a frame is missing."""
    noise = np.random.default_rng(0).integers(0, 60, (250, 48, 64, 3), dtype=np.uint8)
    path = write_video(tmp_path / "v.ts", noise)
    data = bytearray(path.read_bytes())
    start = int(0.4 * len(data))
    data[start : start + 600] = np.random.default_rng(1).bytes(600)
    path.write_bytes(data)
    with VideoReader(path) as reader:
        assert 240 < len([*reader.frames()]) < 250
        assert reader.corrupt_frames > 0


PEAK = f"""
import sys
from pathlib import Path
from tsm_runtime.video.reader import VideoReader
from tsm_runtime.errors import VideoError
try:
    with VideoReader(Path(sys.argv[1])) as reader:
        print(sum(1 for _ in reader.frames()), reader.failure)
except VideoError as error:
    print(error)
print({PEAK_KILOBYTES})
"""


def claiming(path: Path, *places: tuple[bytes, int], number: int = 1_000_000) -> Path:
    """Write a number into a header, so many bytes after a tag; big-endian in mp4, little-endian in AVI."""
    data = bytearray(path.read_bytes())
    order = "little" if path.suffix == ".avi" else "big"
    for tag, offset in places:
        place = data.index(tag) + offset
        data[place : place + 4] = number.to_bytes(4, order)  # type: ignore[arg-type]
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("suffix", "places", "expected"),
    [
        ("avi", [(b"avih", 8 + 16), (b"strh", 8 + 32)], "the file ends early"),
        ("mp4", [(b"stsz", 12)], None),
        ("mp4", [(b"stts", 12)], None),
        ("mp4", [(b"stco", 8)], None),
    ],
)
def test_a_million_frames_claimed_take_no_memory(
    tmp_path: Path, suffix: str, places: list[tuple[bytes, int]], expected: str | None
) -> None:
    codec = "mpeg4" if suffix == "avi" else "libx264"
    whole = claiming(write_video(tmp_path / f"v.{suffix}", counted(50), codec=codec), *places)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(whole)], capture_output=True, text=True, check=True, timeout=60
    )
    said, peak = done.stdout.splitlines()
    assert int(peak) < 300_000
    if expected is not None:
        assert said == f"50 {expected}"


@pytest.mark.parametrize(
    ("edge", "expected"),
    [(12_336, "pictures of 12336 x 12336 are too large to decode"), (30_000, "no frame of the video stream")],
)
def test_a_huge_picture_claimed_is_refused(tmp_path: Path, edge: int, expected: str) -> None:
    """Raw pictures in AVI: only the header states their size; FFmpeg refuses the larger one."""
    path = write_video(tmp_path / "v.avi", counted(3), codec="rawvideo")
    data = bytearray(path.read_bytes())
    header = data.index(b"strf") + 8  # BITMAPINFOHEADER: its size, width, height
    data[header + 4 : header + 12] = edge.to_bytes(4, "little") * 2
    path.write_bytes(data)
    with pytest.raises(VideoError, match=rf"v\.avi: {expected}"):
        run(path, member())
