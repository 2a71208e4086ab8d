"""Files of other people that once went wrong: number of frames and length, by file and as a stream."""

from __future__ import annotations

from pathlib import Path

import pytest

from tsm_runtime.video.reader import VideoReader
from tsm_runtime.video.stream_reader import StreamReader, StreamSource

RIGHT = {
    "packed_b_frames/hmdb51_golf.avi": (89, 2.967),
    "packed_b_frames/xvid2s.avi": (48, 1.96),
    "last_frame_duration/paff25.ts": (25, 1.0),
    "last_frame_duration/media__mp4_sample_sef_super_slow_motion.mp4": (435, 14.5),
    "paff_raw/paff25.h264": (25, 1.0),
    "clock_back/cat.ts": (100, 4.0),
    "spike_time/one_frame_100s_ahead.ts": (100, 4.0),
    "bad_packet_at_end/media__mp4_sample_with_invalid_nalu.mp4": (29, 1.001),
    "live_sound/sound_first.ts": (125, 5.0),
    "avi_h264_pipe/h264_b.avi": (75, 3.0),
    "no_times_silent/30fps_2s.mjpeg": (60, 2.4),
}


@pytest.mark.parametrize("name", RIGHT)
def test_fault_files(shared_data: Path, name: str) -> None:
    path = shared_data / "faults" / "media" / name
    with VideoReader(path) as reader:
        frames = [*reader.frames()]
        assert (len(frames), round(frames[-1].end_seconds, 3), reader.failure) == (*RIGHT[name], None)
        assert bool(reader.assumed_rate) is (path.suffix == ".mjpeg")
    stream = StreamReader(StreamSource(url=str(path), name=name))
    coming = [*stream.frames()]
    stream.close()
    assert [frame.start_seconds for frame in coming] == [frame.start_seconds for frame in frames]


def test_a_clean_stream_counts_nothing_as_corrupt(shared_data: Path) -> None:
    path = shared_data / "faults" / "media" / "live_sound" / "sound_first.ts"
    stream = StreamReader(StreamSource(url=str(path), name="v"))
    assert len([*stream.frames()]) == 125
    assert stream.corrupt_frames == 0
    stream.close()
