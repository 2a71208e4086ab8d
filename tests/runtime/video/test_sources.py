"""What a user's words mean as a source, and streams whose clock jumps or whose middle is damaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import brightness_member, member_of
from media import plain, write_levels, write_video
from streams import segments_in

from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.live.events import (
    FORMAT,
    Discontinuity,
    Drop,
    End,
    Event,
    LiveGap,
    Resumption,
    decode_event,
    encode_event,
)
from tsm_runtime.live.options import LiveOptions
from tsm_runtime.live.session import watch
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.run import run
from tsm_runtime.video.sources import FileSource, find_source
from tsm_runtime.video.stream_reader import StreamSource

DARK, GREY, BRIGHT = 20, 128, 235


def bytes_of(path: Path, **more: bool) -> StreamSource:
    """The file as a stream: nothing is known of its length, and there is no way back."""
    return StreamSource(
        url=str(path), name=path.name, options={"protocol_whitelist": "file,crypto,data"}, **more
    )


def live(source: StreamSource | FileSource, member: Member | None = None) -> list[Event]:
    return list(watch(source, member or brightness_member(), LiveOptions(drop="none")))


# --- names ----------------------------------------------------------------------------------------


def test_kinds_of_sources() -> None:
    rtsp, http, pipe, device, file = (
        find_source(text, timeout_seconds=3)
        for text in ("RTSP://u:p@host/x?key=1", "https://u@host:8080/a.m3u8", "-", "/dev/video0", "a.mp4")
    )
    traits = [(s.name, s.is_live, s.reconnects, s.end_is_loss) for s in (rtsp, http, pipe, device, file)]
    assert traits == [
        ("rtsp://host/x", True, True, True),
        ("https://host:8080/a.m3u8", True, True, False),
        ("-", False, False, False),
        ("/dev/video0", True, True, True),
        ("a.mp4", False, False, False),
    ]
    assert isinstance(rtsp, StreamSource)
    assert (rtsp.url, rtsp.timeout_seconds) == ("RTSP://u:p@host/x?key=1", 3)
    assert "u:p" not in repr(rtsp)
    assert rtsp.options["allowed_media_types"] == "video"
    assert isinstance(device, StreamSource)
    assert device.format == "v4l2"
    assert [s.video_id for s in (rtsp, find_source("x/binocular/u/clip1.mp4"))] == [
        "rtsp://host/x",
        "u/clip1",
    ]
    assert find_source("a.mp4", pace=True).is_live


def test_a_playlist_may_not_name_files_of_this_machine() -> None:
    source = find_source("http://host/list.m3u8")
    assert isinstance(source, StreamSource)
    assert not {"file", "pipe", "fd"} & set(source.options["protocol_whitelist"].split(","))


@pytest.mark.parametrize("text", ["ftp://host/a", "concat://a", "smb://b/c"])
def test_unknown_kinds_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no kind of stream that tsm-live knows \(http, https, rtmp"):
        find_source(text)


def test_a_camera_is_opened_by_its_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no camera here: FFmpeg's test picture stands in for the driver."""
    source = StreamSource(url="testsrc=rate=25:duration=1.2:size=64x48", name="camera", format="lavfi")
    events = live(source)
    end = events[-1]
    assert isinstance(end, End)
    assert (end.frames, end.intervals, end.complete) == (30, 2, True)


# --- clocks ---------------------------------------------------------------------------------------


def test_a_clock_that_jumps_back_begins_anew(tmp_path: Path) -> None:
    """Two recordings in one pipe, each of which counts from its own zero."""
    first = write_levels(tmp_path / "a.ts", [(DARK, 1.5), (GREY, 0.5)])
    second = write_levels(tmp_path / "b.ts", [(BRIGHT, 1.5), (GREY, 0.52)])
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    events = live(bytes_of(both))
    assert segments_in(events) == [("dark", 0.0, 1.5), ("bright", 2.0, 3.5)]
    (jump,) = (e for e in events if isinstance(e, Discontinuity))
    assert jump.reason.startswith("its clock jumped back by 1.")
    (back,) = (e for e in events if isinstance(e, Resumption))
    assert (back.attempts, back.time) == (0, pytest.approx(2.0, abs=0.04))
    end = events[-1]
    assert isinstance(end, End)
    assert (end.reconnects, end.complete, end.frames) == (0, True, 50 + 38 + 13)


def sparse(path: Path, seconds_between: float) -> Path:
    """A dark second, a pause, and another one."""
    times = [*range(0, 1000, 40), *(round(1000 + 1000 * seconds_between) + t for t in range(0, 1040, 40))]
    return write_video(path, [plain(DARK) for _ in times], pts=times)


def test_far_ahead_is_a_jump_for_a_camera_and_a_gap_for_a_recording(tmp_path: Path) -> None:
    path = sparse(tmp_path / "v.mkv", 60.0)
    events = live(bytes_of(path, is_live=True))
    (jump,) = (e for e in events if isinstance(e, Discontinuity))
    assert jump.reason == "its clock jumped ahead by 60.04 s"
    assert [(label, start) for label, start, _ in segments_in(events)] == [("dark", 0.0), ("dark", 1.0)]
    recorded = live(bytes_of(path))
    (gap,) = (e for e in recorded if isinstance(e, LiveGap))
    assert (gap.start, gap.end) == (0.96, 61.0)
    assert segments_in(recorded) == [("dark", 0.0, 1.0), ("dark", 61.0, 62.0)]


# --- damage ---------------------------------------------------------------------------------------


def test_a_damaged_middle_is_counted_and_passed_over(tmp_path: Path) -> None:
    """Noise takes many packets a picture; all but the first of each, which hold the times, are damaged."""
    noise = np.random.default_rng(0)
    levels = [DARK] * 50 + [GREY] * 150 + [BRIGHT] * 50 + [GREY] * 25
    pictures = [(level + noise.integers(-16, 17, (48, 64, 3))).astype(np.uint8) for level in levels]
    path = write_video(tmp_path / "v.ts", pictures)
    data = bytearray(path.read_bytes())
    third = len(data) // 3 // 188 * 188
    for packet in range(third, 2 * third, 188):
        if not data[packet + 1] & 0x40:
            data[packet + 60 : packet + 120] = bytes(60)
    path.write_bytes(data)
    events = live(bytes_of(path))
    end = events[-1]
    assert isinstance(end, End)
    assert end.corrupt > 10
    assert (end.complete, end.time) == (True, pytest.approx(11.0, abs=0.05))
    assert segments_in(events)[0] == ("dark", 0.0, 2.0)
    assert ("bright", 8.0, 10.0) in segments_in(events)
    result = run(path, brightness_member())
    assert (end.gaps, end.intervals) == (len(result.gaps), result.num_intervals)
    # A decoder of several threads calls a picture more or less broken, from run to run.
    assert end.corrupt == pytest.approx(result.corrupt_frames, abs=3)


def outcome(video: Path, member: Member) -> object:
    try:
        result = run(video, member)
    except VideoError:
        return "no result"
    segments = [(s.label, round(s.start_seconds, 6), round(s.end_seconds, 6)) for s in result.segments]
    return segments, result.num_intervals, result.corrupt_frames, result.complete, len(result.gaps)


def live_outcome(source: StreamSource | FileSource, member: Member | None = None) -> object:
    try:
        events = live(source, member)
    except VideoError:
        return "no result"
    end = events[-1]
    assert isinstance(end, End)
    return segments_in(events), end.intervals, end.corrupt, end.complete, end.gaps


def hard_files(folder: Path) -> Sequence[Path]:
    return sorted(path for path in (folder / "hard").iterdir() if path.suffix != ".tsv" and path.is_file())


@pytest.mark.parametrize("every_setting", [False, True])
def test_every_hard_file_played_is_the_file(shared_data: Path, every_setting: bool) -> None:
    files = hard_files(shared_data)
    assert len(files) >= 40
    member = brightness_member()
    if every_setting:
        spec = replace(member.spec, stride_seconds=0.125, window_seconds=0.8)
        member = member_of(spec, smoothing_seconds=0.7, min_duration_seconds=0.3)
    assert {path.name: live_outcome(FileSource(path=path), member) for path in files} == {
        path.name: outcome(path, member) for path in files
    }


def test_every_hard_file_as_a_stream_ends(shared_data: Path) -> None:
    """Without an index or another source of times, it ends regularly or with an error of one line."""
    outcomes = {path.name: live_outcome(bytes_of(path)) for path in hard_files(shared_data)}
    assert sum(found != "no result" for found in outcomes.values()) >= 15


# --- lines ----------------------------------------------------------------------------------------


def test_lines_come_back_as_events(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "v.mp4", [(DARK, 1.0), (GREY, 0.6)])
    for event in live(FileSource(path=path)):
        assert decode_event(encode_event(event)) == event


LINE = b'{"event":"drop","wall":"2026-01-02T03:04:05Z","time":2.5,"start":1,"end":2,"intervals":2'
START = (
    b'{"event":"start","wall":"2026-01-02T03:04:05Z","format":"%s","video":"v","source":"s","models":[],'
    b'"drop":"none","version":"1"}'
)


def test_unknown_keys_and_newer_formats_are_refused() -> None:
    drop = decode_event(LINE + b"}")
    assert isinstance(drop, Drop)
    assert (drop.start, drop.intervals, drop.wall.isoformat()) == (1.0, 2, "2026-01-02T03:04:05+00:00")
    with pytest.raises(UsageError, match="not a line of a live run: Object contains unknown field `colour`"):
        decode_event(LINE + b',"colour":"red"}')
    with pytest.raises(UsageError, match="not a line of a live run"):
        decode_event(LINE)
    with pytest.raises(UsageError, match="Invalid value 'dance'"):
        decode_event(b'{"event":"dance"}')
    assert decode_event(START % FORMAT.encode())
    with pytest.raises(
        UsageError, match=r"in the format 'tsm-tal live 2'; this program reads 'tsm-tal live 1'"
    ):
        decode_event(START % b"tsm-tal live 2")
