"""Pictures of sound: their levels, their times, and clips of recordings for models of sound alone."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from media import counted, write_video
from sounds import RATE, write_sound

from tsm_runtime.audio.pictures import as_picture
from tsm_runtime.audio.sound_reader import SoundReader
from tsm_runtime.audio.spec import SoundSpec
from tsm_runtime.clips.joined import clips_of
from tsm_runtime.clips.options import ClipOptions
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import UsageError, VideoError

SPEC = SoundSpec(window_seconds=0.4)
CLIPS = ClipSpec(interval_seconds=0.5, num_frames=2, size=0, sound=SPEC)


def noise(seconds: float, seed: int = 0) -> npt.NDArray[np.float32]:
    return (0.1 * np.random.default_rng(seed).normal(size=round(seconds * RATE))).astype(np.float32)


def test_levels_are_logarithms_above_silence() -> None:
    log_mel = np.full((2, 3, 4), math.log(0.01), np.float32)
    log_mel[0, 1] += 2.0
    log_mel[0, 2] += 100.0
    log_mel[1] = [[0.0], [1.0], [-100.0]]
    picture = as_picture(log_mel, SoundSpec(channels=2))
    assert picture.shape == (3, 4, 2)
    assert picture[:, 0].tolist() == [[0, 128], [48, 140], [255, 0]]


def test_pictures_lie_at_their_times(tmp_path: Path) -> None:
    samples = 0 * noise(2.0)
    samples[round(1.2 * RATE) : round(1.22 * RATE)] = 0.9
    file = write_sound(tmp_path / "a.wav", samples, codec="pcm_s16le", picture_seconds=0)
    with SoundReader(file, SPEC) as reader:
        frames = list(reader.frames())
    assert [round(timed.start_seconds, 6) for timed in frames[:3]] == [0.0, 0.04, 0.08]
    assert (len(frames), frames[-1].end_seconds) == (50, pytest.approx(2.0))
    for timed in frames:
        rows = np.flatnonzero(timed.frame.pixels.max(axis=(1, 2)))  # type: ignore[attr-defined]
        heard_at = 1.21 - (timed.start_seconds + 0.02) + 0.2  # seconds after the picture's first frame
        if 0.03 < heard_at < 0.37:
            assert rows.mean() / 100 + 0.005 == pytest.approx(heard_at, abs=0.03)
        elif not -0.03 < heard_at < 0.43:
            assert not rows.size


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_whole_intervals_of_any_rate_are_there(tmp_path: Path, rate: int) -> None:
    samples = np.resize(noise(4.0), 4 * rate)
    file = write_sound(tmp_path / "a.wav", samples, codec="pcm_s16le", rate=rate, picture_seconds=0)
    with SoundReader(file, SPEC) as reader:
        stream = clips_of(reader, CLIPS)
        batches = list(stream)
    assert [int(batch.indices[0]) for batch in batches] == [*range(8)]
    assert stream.duration_seconds == pytest.approx(4.0, abs=1e-6)
    assert batches[0].frames.shape == (1, 2, 40, 64, 1)
    assert [*stream.warnings(CLIPS)] == []


def test_what_was_not_recorded_is_left_out(tmp_path: Path) -> None:
    late = write_sound(tmp_path / "late.mkv", noise(5.0), begin_seconds=1.2, gap=(1.8, 3.3))
    with SoundReader(late, SPEC) as reader:
        stream = clips_of(reader, CLIPS)
        indices = [int(batch.indices[0]) for batch in stream]
    assert indices == [3, 4, 5, 6, 9, 10, 11]  # the gap is from 3.06 to 4.51 s
    assert "1 gap without a new frame for longer than an interval" in " ".join(stream.warnings(CLIPS))


def test_a_part_has_the_clips_of_the_whole(tmp_path: Path) -> None:
    file = write_sound(tmp_path / "a.flac", noise(6.0), codec="flac", picture_seconds=0)
    with SoundReader(file, SPEC) as reader:
        whole = {int(batch.indices[0]): batch.frames[0] for batch in clips_of(reader, CLIPS)}
    with SoundReader(file, SPEC) as reader:
        part = clips_of(reader, CLIPS, options=ClipOptions(start_seconds=2.2, end_seconds=4.0))
        found = {int(batch.indices[0]): batch.frames[0] for batch in part}
    assert sorted(found) == [5, 6, 7]
    assert all(np.array_equal(found[k], whole[k]) for k in found)


def test_what_has_no_sound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"mute.mp4: no audio track, and this model takes sound alone"):
        SoundReader(write_video(tmp_path / "mute.mp4", counted(10)), SPEC)
    file = write_sound(tmp_path / "a.mkv", 0 * noise(1.0))
    with pytest.raises(UsageError, match="audio track 'fra' is not there"):
        SoundReader(file, SoundSpec(track="fra"))
    with SoundReader(file, SPEC) as reader:
        stream = clips_of(reader, CLIPS)
        assert len(list(stream)) == 2
        assert [*stream.warnings(CLIPS)] == ["sound: silent"]
    with pytest.raises(ValueError, match=r"interval_seconds 0\.03: expected 0.04 to"):
        ClipSpec(interval_seconds=0.03, size=0, sound=SPEC)
