"""Times that are missing, wrong or restart: every frame is kept, at the right time, by every way in."""

from __future__ import annotations

import os
import re
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import av
import numpy as np
import pytest
from fakes import ACTIONS, SCENES, BrightnessBackend
from media import SMOOTH, Picture, counted, plain, write_levels, write_video
from over_http import serving_http

from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run
from tsm_runtime.results import Result
from tsm_runtime.video.reader import VideoReader
from tsm_runtime.video.sources import find_source
from tsm_runtime.video.stream_reader import StreamReader, StreamSource

NO_B_FRAMES = {"preset": "ultrafast", "tune": "zerolatency"}
EVEN = [round(n / 25, 4) for n in range(50)]


def by_file(path: Path) -> list[float]:
    with VideoReader(path) as reader:
        times = [round(frame.start_seconds, 4) for frame in reader.frames()]
        assert reader.failure is None
        return times


def by_pipe(path: Path) -> list[float]:
    """Nothing is known of a length, and there is no way back."""
    reader = StreamReader(StreamSource(url=str(path), name=path.name, options={"seekable": "0"}))
    times = [round(frame.start_seconds, 4) for frame in reader.frames()]
    assert reader.failure is None
    reader.close()
    return times


both_ways = pytest.mark.parametrize("times_of", [by_file, by_pipe])


def found_in(path: Path, **options: float) -> Result:
    spec = ClipSpec(interval_seconds=0.5, num_frames=4, size=16)
    member = Member(backend=BrightnessBackend(), spec=spec, action_labels=ACTIONS, scene_labels=SCENES)
    return run(path, member, Options(**options))  # type: ignore[arg-type]


# --- AVI ------------------------------------------------------------------------------------------


def write_packed(path: Path, pictures: Iterable[Picture]) -> Path:
    """MPEG-4 as DivX wrote it: a B-frame shares the packet of the next frame, which leaves an empty one."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"bf": "1", "b_strategy": "0"})
        stream.codec_context.codec_tag = "DX50"
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        packets = []
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += stream.encode(frame)
        coded = [bytes(packet) for packet in [*packets, *stream.encode()]]
        for number, data in enumerate(packed(coded)):
            packet = av.Packet(data)
            packet.pts = packet.dts = number
            packet.duration, packet.time_base, packet.stream = 1, Fraction(1, 25), stream
            container.mux(packet)
    return path


def packed(coded: list[bytes]) -> list[bytes]:
    named = [re.sub(rb"Lavc[0-9.]+", b"DivX503b1393p", data) for data in coded]
    out: list[bytes] = []
    for data in named:
        is_b_frame = data[:4] == b"\0\0\1\xb6" and data[4] >> 6 == 2
        if is_b_frame:
            out[-1:] = [out[-1] + data, b"\x7f"]
        else:
            out.append(data)
    return out


@both_ways
@pytest.mark.parametrize("threads", [1, 4])
def test_packed_b_frames_are_all_there(
    tmp_path: Path, times_of: partial[list[float]], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: threads)
    monkeypatch.setattr("tsm_runtime.video.choosing._PIXELS_FOR_THREADS", 1 if threads > 1 else 10**9)
    assert times_of(write_packed(tmp_path / "v.avi", counted(50, step=4))) == EVEN


@both_ways
def test_h264_in_avi_is_all_there(tmp_path: Path, times_of: partial[list[float]]) -> None:
    assert times_of(write_video(tmp_path / "v.avi", counted(50, step=4))) == EVEN


# --- the last frame -------------------------------------------------------------------------------


def with_last_duration(path: Path, ticks: int) -> Path:
    """Rewrite the table of durations of an MP4 so that the last frame states another one."""
    data = bytearray(path.read_bytes())
    at = data.index(b"stts") - 4
    size, _, _, entries, count, duration = struct.unpack(">6I", data[at : at + 24])
    assert entries == 1
    data[at : at + size] = struct.pack(">I4sIIIIII", size + 8, b"stts", 0, 2, count - 1, duration, 1, ticks)
    for box in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        place = data.rindex(box, 0, at + 4) - 4
        (length,) = struct.unpack(">I", data[place : place + 4])
        data[place : place + 4] = struct.pack(">I", length + 8)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("ticks", [0, 1, 256])
def test_a_last_frame_that_states_too_little_costs_no_interval(tmp_path: Path, ticks: int) -> None:
    path = with_last_duration(write_levels(tmp_path / "v.mp4", [(20, 2.0)]), ticks)
    result = found_in(path)
    assert (result.duration_seconds, result.num_intervals) == (pytest.approx(2.0), 4)


@pytest.mark.parametrize("rate", [25, 30])
def test_raw_video_keeps_the_rate_that_its_coding_states(tmp_path: Path, rate: int) -> None:
    path = write_video(tmp_path / "v.h264", counted(50), rate=rate, container_format="h264")
    with VideoReader(path) as reader:
        *_, last = reader.frames()
        assert last.end_seconds == pytest.approx(50 / rate)
        assert reader.assumed_rate is None


# --- wrong times ----------------------------------------------------------------------------------


def shifted(path: Path, numbers: range, seconds: float | None) -> Path:
    """Move the times of some pictures of a transport stream; None: set them to 0."""
    data = bytearray(path.read_bytes())
    number = -1
    for at in range(0, len(data), 188):
        begins, has_field = data[at + 1] & 0x40, data[at + 3] & 0x20
        pes = at + 4 + (data[at + 4] + 1 if has_field else 0)
        if not begins or data[pes : pes + 3] != b"\0\0\1" or data[pes + 3] & 0xF0 != 0xE0:
            continue
        number += 1
        if number in numbers:
            for field in range(2 if data[pes + 7] & 0x40 else 1):
                move_time(data, pes + 9 + 5 * field, seconds)
    path.write_bytes(data)
    return path


def move_time(data: bytearray, at: int, seconds: float | None) -> None:
    """33 bits in five bytes, with marks between them."""
    a, b, c, d, e = data[at : at + 5]
    ticks = (a >> 1 & 7) << 30 | b << 22 | c >> 1 << 15 | d << 7 | e >> 1
    ticks = 0 if seconds is None else ticks + round(seconds * 90_000)
    parts = (a & 0xF1 | ticks >> 30 << 1, ticks >> 22, ticks >> 14 | 1, ticks >> 7, ticks << 1 | 1)
    data[at : at + 5] = bytes(part & 0xFF for part in parts)


@both_ways
@pytest.mark.parametrize("seconds", [100.0, 3.0, 0.3, None])
@pytest.mark.parametrize("number", [0, 20, 49])
def test_one_wrong_time_costs_nothing(
    tmp_path: Path, times_of: partial[list[float]], seconds: float | None, number: int
) -> None:
    path = write_video(tmp_path / "v.ts", counted(50), options=NO_B_FRAMES)
    found = times_of(shifted(path, range(number, number + 1), seconds))
    if number == 49 and seconds in (0.3, 3.0):  # may be a pause
        assert found[:-1] == EVEN[:-1]
    else:
        assert found == pytest.approx(EVEN, abs=0.021)
    assert len(found) == 50


@both_ways
@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_joined_recordings_are_one_time_line(
    tmp_path: Path, times_of: partial[list[float]], suffix: str
) -> None:
    more = {"codec": "mpeg2video"} if suffix == "mpg" else {}
    path = write_video(tmp_path / f"v.{suffix}", counted(75), **more)
    path.write_bytes(path.read_bytes() * 3)
    found = times_of(path)
    assert len(found) >= 220
    assert found[-1] == pytest.approx(9, abs=0.2)
    assert np.diff(found).max() < 0.2


def test_segments_do_not_cross_where_the_clock_begins_anew(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.ts", [plain(20)] * 50)
    path.write_bytes(path.read_bytes() * 2)
    result = found_in(path)
    assert (result.duration_seconds, result.num_intervals, result.complete) == (pytest.approx(4.0), 8, True)
    assert result.discontinuities == (pytest.approx(2.0),)
    assert [(s.start_seconds, s.end_seconds) for s in result.segments] == [(0, 2), (2, 4)]
    assert "its clock restarts at 2.00 s: no segment crosses that" in " ".join(result.warnings)


def test_an_interval_in_which_the_clock_begins_anew_is_left_out(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.ts", [plain(20)] * 30)
    path.write_bytes(path.read_bytes() * 2)
    result = found_in(path)
    assert result.num_intervals == 3  # [0, 1) and [1.5, 2.4) hold whole ones, 1.2 s lies within [1, 1.5)
    assert [(s.start_seconds, s.end_seconds) for s in result.segments] == [(0, 1), (1.5, 2)]


def test_seeking_in_joined_recordings_finds_the_right_place(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "a.ts", [(20, 8.0)])
    second = write_levels(tmp_path / "b.ts", [(230, 8.0)])
    path.write_bytes(path.read_bytes() + second.read_bytes())
    result = found_in(path, start_seconds=4.0)
    assert [(s.label, s.start_seconds, s.end_seconds) for s in result.segments] == [
        ("dark", 4, 8),
        ("bright", 8, 16),
    ]


def test_seeking_in_one_recording_saves_decoding(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "a.ts", [(20, 12.0)])
    with VideoReader(path) as reader:
        assert next(iter(reader.frames(10.0))).start_seconds > 5


# --- bad packets ----------------------------------------------------------------------------------


def with_bad_packet(path: Path, number: int) -> Path:
    """Give a picture of an MP4 a length that exceeds its packet."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        place = packets[number].pos
    data = bytearray(path.read_bytes())
    data[place : place + 4] = b"\x7f\xff\xff\xff"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("number", [15, 43, 72, 74])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_bad_packet_costs_no_good_frame_whatever_the_threads(
    tmp_path: Path, number: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tsm_runtime.video.choosing._PIXELS_FOR_THREADS", 1 if threads > 1 else 10**9)
    options = {"preset": "ultrafast", "x264-params": "keyint=10:bframes=0:slices=1"}
    path = with_bad_packet(write_video(tmp_path / "v.mp4", counted(75), options=options), number)
    with VideoReader(path) as reader:
        if threads > 1:
            reader._stream.codec_context.thread_count = threads
        found = [round(frame.start_seconds * 25) for frame in reader.frames()]
        assert found == [n for n in range(75) if n != number]
        assert reader.corrupt_frames == 1
    with VideoReader(path) as reader:
        part = [round(frame.start_seconds * 25) for frame in reader.frames(2.6)]
        assert found[-len(part) :] == part


# --- sources without times ------------------------------------------------------------------------


def write_mjpeg(path: Path, number: int) -> Path:
    return write_video(
        path, counted(number), codec="mjpeg", pixel_format="yuvj420p", container_format="mjpeg"
    )


def test_an_assumed_rate_is_reported_and_a_stated_one_taken(tmp_path: Path) -> None:
    path = write_mjpeg(tmp_path / "v.mjpeg", 60)
    result = found_in(path)
    assert result.duration_seconds == pytest.approx(2.4)
    (line,) = (line for line in result.warnings if "states no times" in line)
    assert "assumed at 25 frames per second; --rate" in line
    stated = found_in(path, rate=30)
    assert stated.duration_seconds == pytest.approx(2.0)
    assert not any("no times" in line for line in stated.warnings)


def test_a_rate_out_of_range_is_refused() -> None:
    with pytest.raises(UsageError, match="rate 0: expected frames per second"):
        Options(rate=0)


def test_a_rate_changes_nothing_where_there_are_times(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "v.mp4", [(20, 2.0)])
    assert found_in(path, rate=5) == found_in(path)


@contextmanager
def camera(path: Path, seconds_between: float, *, is_file: bool = False) -> Iterator[str]:
    """An address that sends JPEG pictures as cameras do, or all at once as a file."""
    data = path.read_bytes()
    pictures = [b"\xff\xd8" + part for part in data.split(b"\xff\xd8")[1:]]

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            self.send_response(200)
            if is_file:
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                return
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
            self.end_headers()
            for picture in pictures:
                head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                self.wfile.write(head.encode() + picture + b"\r\n")
                time.sleep(seconds_between)

    with serving_http(Handler) as address:
        yield f"{address}/{path.name}"


def test_a_camera_without_times_counts_by_arrival(tmp_path: Path) -> None:
    path = write_mjpeg(tmp_path / "v.mjpeg", 20)
    with camera(path, 0.1) as address:
        reader = find_source(address).open()
        times = [frame.start_seconds for frame in reader.frames()]
        reader.close()
    assert len(times) == 20
    assert times == sorted(times)
    assert times[-1] > 1.6  # at 25 frames per second it would be 0.76


@pytest.mark.parametrize(("rate", "end"), [(None, 1.6), (20.0, 2.0)])
def test_a_file_without_times_over_http_is_the_file(tmp_path: Path, rate: float | None, end: float) -> None:
    path = write_mjpeg(tmp_path / "v.mjpeg", 40)
    with camera(path, 0, is_file=True) as address:
        reader = find_source(address, rate=rate).open()
        *_, last = reader.frames()
        reader.close()
    assert last.end_seconds == pytest.approx(end)


# --- the end of a stream --------------------------------------------------------------------------


@pytest.mark.parametrize("sound_first", [False, True])
def test_a_stream_with_sound_gives_its_last_frames(tmp_path: Path, sound_first: bool) -> None:
    whole = write_video(tmp_path / "a.mp4", counted(50), silence_seconds=2.0)
    path = tmp_path / "v.ts"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        kinds = ["audio", "video"] if sound_first else ["video", "audio"]
        streams = {kind: target.add_stream_from_template(getattr(source.streams, kind)[0]) for kind in kinds}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.type]
                target.mux(packet)
    reader = StreamReader(StreamSource(url=str(path), name="v"))
    assert [round(frame.start_seconds, 4) for frame in reader.frames()] == EVEN
    assert (reader.corrupt_frames, reader.failure) == (0, None)


# --- what cannot be seen --------------------------------------------------------------------------


ENCRYPTION = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "00112233445566778899aabbccddeeff",
    "encryption_kid": "ffeeddccbbaa99887766554433221100",
}


def scrambled(path: Path, since: float) -> Path:
    """Scramble a transport stream from a share of it on, as pay television does."""
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(0)
    for at in range(0, len(data), 188):
        is_video = (data[at + 1] & 0x1F) << 8 | data[at + 2] == 0x100
        if is_video and at >= since * len(data):
            data[at + 3] |= 0x80
            start = at + 4 + (data[at + 4] + 1 if data[at + 3] & 0x20 else 0)
            data[start : at + 188] = noise.bytes(at + 188 - start)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("movflags", ["faststart", "frag_keyframe+empty_moov"])
def test_encrypted_pictures_are_called_so(tmp_path: Path, movflags: str) -> None:
    more = {"container_options": ENCRYPTION | {"movflags": movflags}}
    path = write_video(tmp_path / "v.mp4", counted(50), **more)
    with pytest.raises(VideoError, match=r"v\.mp4: .*encrypted"):
        found_in(path)
    reader = StreamReader(StreamSource(url=str(path), name="v"))
    assert list(reader.frames()) == []
    assert "encrypted" in str(reader.failure)


def test_a_scrambled_transport_stream_is_called_encrypted(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 48, 64, 3), dtype=np.uint8)
    whole = write_video(tmp_path / "v.ts", noise)
    with pytest.raises(VideoError, match="encrypted"):
        found_in(scrambled(whole, 0.0))
    result = found_in(scrambled(write_video(tmp_path / "w.ts", noise), 0.5))
    assert result.complete is False
    assert "encrypted" in result.warnings[0]


def test_animated_webp_is_named(tmp_path: Path) -> None:
    path = tmp_path / "v.webp"
    path.write_bytes(b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\x02" + bytes(50))
    with pytest.raises(VideoError, match="animated WebP is not supported; convert it"):
        VideoReader(path)


def test_srt_is_no_longer_offered() -> None:
    with pytest.raises(UsageError, match=r"srt:// is not part of .* ffmpeg -i srt://host:1 -c copy"):
        find_source("srt://host:1?passphrase=secret")


def test_an_mp4_with_its_index_at_the_end_gets_a_hint_as_a_stream(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (100, 240, 320, 3), dtype=np.uint8)
    path = write_video(tmp_path / "v.mp4", noise, options=SMOOTH | {"crf": "30"})

    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file, suppress(BrokenPipeError):
            file.write(path.read_bytes())

    thread = threading.Thread(target=write)
    thread.start()
    reader = StreamReader(StreamSource(url=f"pipe:{reading}", name="-"))
    assert list(reader.frames()) == []
    assert "index at the end cannot be read as a stream" in str(reader.failure)
    reader.close()
    os.close(reading)
    thread.join()
