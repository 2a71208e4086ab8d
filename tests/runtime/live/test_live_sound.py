"""Sound in live runs: the same as a file's, alone and beside pictures, late or missing, and within bounds."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import brightness_member, member_of
from hearing import ALONE, SEEN, FeaturesBackend, bursts, hearing_member, sound_member
from sounds import RATE, write_sound
from streams import segments_in

from tsm_runtime.audio.spec import SoundSpec
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.live.options import LiveOptions
from tsm_runtime.live.session import watch
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.run import run
from tsm_runtime.video.sources import FileSource, find_source

Found = list[tuple[str, float, float]]


def through_a_pipe(file: Path, pipe: Path, members: Member | Sequence[Member]) -> Found:
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(file.read_bytes()))
    writer.start()
    found = segments_in(list(watch(find_source(str(pipe)), members)))  # type: ignore[arg-type]
    writer.join(60)
    return found


def in_file(file: Path, members: Member | Sequence[Member]) -> Found:
    return [(s.label, s.start_seconds, s.end_seconds) for s in run(file, members).segments]


FILES = {
    "plain.mkv": {},
    "late.mkv": {"begin_seconds": 1.3},
    "gap.mkv": {"gap": (2.3, 3.7)},
    "long.mkv": {"picture_seconds": 5.0},
    "short.mkv": {"picture_seconds": 11.0},
    "8khz.mkv": {"codec": "pcm_s16le", "rate": 8000},
    "mpeg.ts": {"codec": "libmp3lame", "rate": 44_100},
    "alone.wav": {"codec": "pcm_s16le", "picture_seconds": 0},
    "alone.mp3": {"codec": "libmp3lame", "picture_seconds": 0},
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", [sound_member, hearing_member])
def test_live_finds_what_a_file_gives(
    tmp_path: Path, name: str, kind: object, caplog: pytest.LogCaptureFixture
) -> None:
    member = kind()  # type: ignore[operator]
    if name.startswith("alone") and member.sound is not None:
        return
    rate = int(FILES[name].get("rate", RATE))  # type: ignore[call-overload]
    samples = np.interp(np.arange(8 * rate) / rate, np.arange(8 * RATE) / RATE, bursts())
    file = write_sound(tmp_path / name, samples, **FILES[name])  # type: ignore[arg-type]
    expected = in_file(file, member)
    assert len(expected) > 3
    assert segments_in(list(watch(FileSource(path=file), member))) == expected
    assert through_a_pipe(file, tmp_path / "pipe", member) == expected
    is_late = member.sound is not None and name == "short.mkv"  # the sound ends before the pictures
    assert [line for line in caplog.messages if "no sound within" in line and not is_late] == []


def test_several_members_that_hear(tmp_path: Path) -> None:
    file = write_sound(tmp_path / "a.mkv", bursts())
    members = [hearing_member(), replace(brightness_member(1.0, 2, 16), weight=0.5)]
    found = segments_in(list(watch(FileSource(path=file), members)))
    assert sorted(found) == sorted(in_file(file, members))
    paced = FileSource(path=write_sound(tmp_path / "b.mkv", bursts(3.0)), pace=True)
    assert segments_in(list(watch(paced, sound_member()))) == in_file(paced.path, sound_member())


def test_pictures_without_sound_are_scored_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write_sound(tmp_path / "a.mkv", bursts(), languages=())
    seen = replace(member_of(SEEN), backend=FeaturesBackend())
    assert segments_in(list(watch(FileSource(path=file), hearing_member()))) == in_file(file, seen)
    assert through_a_pipe(file, tmp_path / "pipe", hearing_member()) == in_file(file, seen)
    assert [line.split(": ")[1] for line in caplog.messages] == [
        "no audio track; scored by its pictures alone"
    ] * 2
    with pytest.raises(VideoError, match="no audio track, and this model takes sound alone"):
        list(watch(FileSource(path=file), sound_member()))
    with pytest.raises(VideoError, match="no audio track, and this model takes sound alone"):
        through_a_pipe(file, tmp_path / "pipe2", sound_member())


def test_late_sound_does_not_hold_pictures_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """All sound lies behind the pictures in the file: they go on after a second without it."""
    caplog.set_level(logging.WARNING)
    file = write_sound(tmp_path / "a.mkv", bursts(12.0), interleaved=False)
    found = through_a_pipe(file, tmp_path / "pipe", hearing_member())
    assert any("no sound within 1 s of its pictures" in line for line in caplog.messages)
    assert found
    assert found[-1][2] > 10


def test_mixed_inputs_are_refused(tmp_path: Path) -> None:
    source = FileSource(path=tmp_path / "a.mkv")
    with pytest.raises(UsageError, match="a stream is run by models of pictures or by models of sound alone"):
        watch(source, [sound_member(), hearing_member()])
    other = member_of(replace(ALONE, sound=SoundSpec(window_seconds=1.0)))
    with pytest.raises(UsageError, match="cut sound in different ways"):
        watch(source, [sound_member(), other], LiveOptions())


def test_a_microphone_is_a_source() -> None:
    source = find_source("alsa:hw:0")
    assert (source.name, source.is_live, source.end_is_loss) == ("alsa:hw:0", True, True)
    with pytest.raises(UsageError, match=r"dshow is not part of the FFmpeg .* -f dshow -i audio=Mic -f wav"):
        find_source("dshow:audio=Mic")
