"""Sound on the time line of the pictures: formats, channels, rates, gaps, late starts, tracks, damage."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from media import counted, write_video
from sounds import write_sound

from tsm_runtime.audio.reader import Sound, read_sound
from tsm_runtime.audio.spec import SAMPLE_RATE
from tsm_runtime.errors import UsageError, VideoError

WITH_SOUND = {
    "ExoPlayer__sample.avi": 4.08,
    "ExoPlayer__sample_fragmented.mp4": 1.0,
    "ExoPlayer__sample_opus.mp4": 1.0,
    "ExoPlayer__sample_with_htc_rotation_track_name.mkv": 1.07,
    "ExoPlayer__sample_with_increasing_timestamps.mp4": 1.0,
    "ExoPlayer__testvid_1022ms.mp4": 1.02,
    "go-mp4__sample_qt.mp4": 0.0,
    "libwebm__fixed_lacing_bad_lace_size.mkv": 0.0,
    "moviepy__no_duration.webm": 4.88,
    "moviepy__video_with_failing_audio.mp4": 11.23,
    "mp4parse-rust__invalid_userdata.mp4": 0.0,
    "mp4parse-rust__minimal.mp4": 0.04,
    "mp4parse-rust__test_case_1185230.mp4": 0.0,
    "mp4parser__MOV00006.3gp": 15.2,
    "small__mp4-with-audio.mp4": 0.05,
    "tika__testWEBM.webm": 0.97,
    "tika__testWMV.wmv": 5.01,
    "torchcodec__nasa_13013.mp4": 13.06,
}


def clicks(seconds: float = 4.0, rate: int = SAMPLE_RATE) -> npt.NDArray[np.float32]:
    """A click at each whole second but the first."""
    samples = np.zeros(round(seconds * rate), np.float32)
    for second in range(1, int(seconds)):
        samples[second * rate : second * rate + rate // 400] = 0.9
    return samples


def heard_at(sound: Sound) -> list[float]:
    """Seconds at which clicks begin."""
    loud = np.flatnonzero(np.abs(sound.samples[0]) > 0.15)
    return [round(float(n) / sound.rate, 2) for k, n in enumerate(loud) if not k or n - loud[k - 1] > 1600]


@pytest.mark.parametrize(
    ("name", "codec", "rate", "more"),
    [
        ("a.mp4", "aac", 16_000, {}),
        ("a.mkv", "libopus", 48_000, {}),
        ("a.mp4", "libmp3lame", 44_100, {}),
        ("a.avi", "pcm_s16le", 8_000, {}),
        ("a.mkv", "flac", 16_000, {}),
        ("a.ts", "libmp3lame", 44_100, {}),
        ("a.wav", "pcm_f32le", 16_000, {"picture_seconds": 0}),
        ("a.m4a", "aac", 16_000, {"picture_seconds": 0}),
        ("a.mp4", "aac", 48_000, {"layout": "5.1"}),
        ("a.mp4", "aac", 16_000, {"picture_seconds": 1.0}),
    ],
)
def test_every_format_is_heard_at_its_time(
    tmp_path: Path, name: str, codec: str, rate: int, more: dict[str, Any]
) -> None:
    sound = read_sound(write_sound(tmp_path / name, clicks(rate=rate), codec=codec, rate=rate, **more))
    assert sound is not None
    assert heard_at(sound) == [1.0, 2.0, 3.0]
    assert sound.duration_seconds == pytest.approx(4.0, abs=0.1)
    assert len(sound.spans) == 1
    assert sound.warnings == ()


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv"])
def test_sound_that_starts_late_keeps_its_place(tmp_path: Path, name: str) -> None:
    sound = read_sound(write_sound(tmp_path / name, clicks(), begin_seconds=1.5))
    assert sound is not None
    assert heard_at(sound) == [2.5, 3.5, 4.5]
    assert sound.spans[0][0] == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("name", ["gap.mp4", "gap.mkv"])
def test_a_gap_is_silence_and_a_warning(tmp_path: Path, name: str) -> None:
    sound = read_sound(write_sound(tmp_path / name, clicks(6.0), gap=(2.3, 3.7)))
    assert sound is not None
    assert heard_at(sound) == [1.0, 2.0, 4.0, 5.0]
    assert [round(bound, 1) for span in sound.spans for bound in span] == [0.0, 2.3, 3.7, 6.0]
    assert "1 gap, the first 2.30 to 3.71 s" in sound.warnings[0]


@pytest.mark.parametrize("speed", [0.99, 1.01])
def test_drift_is_corrected(tmp_path: Path, speed: float) -> None:
    """The samples of a recorder whose clock runs at another speed than the timestamps say."""
    samples = clicks(21.0)
    file = write_sound(tmp_path / "d.mkv", samples, codec="pcm_s16le", speed=speed)
    sound = read_sound(file)
    assert sound is not None
    assert sound.warnings == ()
    loud = heard_at(sound)
    assert loud == pytest.approx([second / speed for second in range(1, 21)], abs=0.07)


def test_stereo_keeps_its_channels(tmp_path: Path) -> None:
    left = clicks()
    file = write_sound(
        tmp_path / "s.wav", np.stack([left, 0 * left]), codec="pcm_s16le", layout="stereo", picture_seconds=0
    )
    stereo, mono = read_sound(file, channels=2), read_sound(file)
    assert stereo is not None
    assert mono is not None
    assert stereo.samples.shape == (2, 4 * SAMPLE_RATE)
    assert (np.abs(stereo.samples).max(axis=1) > 0.8).tolist() == [True, False]
    assert np.abs(mono.samples).max() == pytest.approx(0.45, abs=0.02)


def test_tracks_are_chosen_by_number_and_language(tmp_path: Path) -> None:
    file = write_sound(tmp_path / "t.mkv", clicks(), languages=("eng", "deu"), loudness=(1.0, 0.4))
    peaks = {}
    for track in ("", "0", "1", "eng", "deu"):
        sound = read_sound(file, track=track)
        assert sound is not None
        peaks[track] = float(np.abs(sound.samples).max())
        assert bool(sound.warnings) == (track == "")
    assert peaks["0"] == peaks["eng"] == peaks[""] > 2 * peaks["1"]
    assert peaks["1"] == peaks["deu"]
    with pytest.raises(
        UsageError, match=r"track 'fra' is not there; the file has 0 \(eng, aac, 1 channels\)"
    ):
        read_sound(file, track="fra")


def test_no_track_and_a_silent_one(tmp_path: Path) -> None:
    assert read_sound(write_video(tmp_path / "mute.mp4", counted(10))) is None
    silent = read_sound(write_sound(tmp_path / "silent.mp4", 0 * clicks()))
    assert silent is not None
    assert silent.is_silent
    assert silent.warnings == ("sound: silent",)
    with pytest.raises(VideoError, match="no such file"):
        read_sound(tmp_path / "none.mp4")


def test_damage_in_the_middle_costs_only_the_middle(tmp_path: Path) -> None:
    file = write_sound(tmp_path / "d.mkv", clicks(8.0), codec="libmp3lame")
    data = bytearray(file.read_bytes())
    rng = np.random.default_rng(1)
    middle = len(data) // 2
    data[middle : middle + 1500] = rng.bytes(1500)
    file.write_bytes(data)
    sound = read_sound(file)
    assert sound is not None
    assert {1.0, 2.0, 6.0, 7.0} <= set(heard_at(sound))
    assert sound.warnings


@pytest.mark.parametrize("name", WITH_SOUND)
def test_hard_files_with_sound(shared_data: Path, name: str) -> None:
    sound = read_sound(shared_data / "hard" / name)
    assert sound is not None
    assert sound.duration_seconds == pytest.approx(WITH_SOUND[name], abs=0.05)
    assert np.isfinite(sound.samples).all()
    assert WITH_SOUND[name] or sound.warnings


def test_no_hard_file_raises_anything_unexpected(shared_data: Path) -> None:
    found = set()
    for file in sorted((shared_data / "hard").iterdir()):
        with suppress(VideoError):
            if read_sound(file) is not None:
                found.add(file.name)
    assert found == set(WITH_SOUND)
