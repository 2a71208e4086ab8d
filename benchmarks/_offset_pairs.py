"""Pairs of recordings cut from real footage at known shifts, worsened; made by `offsets.py`."""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from tsm_runtime.audio.reader import read_sound
from tsm_runtime.video.reader import VideoReader

RATE = 48_000
SIZE = (160, 96)
CODECS = (("aac", 48_000), ("libmp3lame", 44_100), ("libopus", 48_000), ("ac3", 48_000), ("pcm_s16le", 8_000))
VIDEO_CODECS = ("libx264", "mpeg4", "mpeg2video")


@dataclass(frozen=True, kw_only=True)
class Footage:
    """Scenes joined to one long recording: its sound, and its pictures at 25 per second."""

    sound: npt.NDArray[np.float32]
    pictures: npt.NDArray[np.uint8]

    @property
    def seconds(self) -> float:
        """Length of both."""
        return min(len(self.sound) / RATE, len(self.pictures) / 25)


@dataclass(frozen=True, kw_only=True)
class Case:
    """How a pair is cut and worsened; times in seconds of the footage."""

    begin_reference: float
    begin_video: float
    length: float
    speed: float
    snr_db: float | None
    gain: float
    codec: tuple[str, int]
    video_codec: str
    rate: Fraction
    has_sound: bool

    @property
    def shift(self) -> float:
        """Second of the reference's time line at which the video begins."""
        return self.begin_video - self.begin_reference

    @property
    def overlap(self) -> float:
        """Seconds that both recorded."""
        return float(self.length - abs(self.shift))


def join(videos: list[Path]) -> Footage:
    """Join real videos, of each ten seconds."""
    sounds, pictures = [], []
    for path in videos:
        sound = read_sound(path, rate=RATE)
        assert sound is not None
        sounds.append(np.resize(sound.samples[0], 10 * RATE))
        pictures.append(_ten_seconds(path))
    return Footage(sound=np.concatenate(sounds), pictures=np.concatenate(pictures))


def moved(footage: Footage, seconds: float) -> Footage:
    """Let a recording begin later; what is cut off comes at its end."""
    return Footage(
        sound=np.roll(footage.sound, -round(seconds * RATE)),
        pictures=np.roll(footage.pictures, -round(seconds * 25), axis=0),
    )


def _ten_seconds(path: Path) -> npt.NDArray[np.uint8]:
    with VideoReader(path) as reader:
        times, frames = [], []
        for timed in reader.frames():
            times.append(timed.start_seconds)
            frames.append(timed.frame.reformat(width=SIZE[0], height=SIZE[1], format="rgb24").to_ndarray())
    places = np.searchsorted(times, np.arange(250) / 25 + 1e-6, side="right") - 1
    return np.stack([frames[place] for place in places])


def draw_case(rng: random.Random, seconds: float, *, has_sound: bool, overlap: float) -> Case:
    """Draw a pair whose recordings have `overlap` seconds in common."""
    length = overlap + rng.uniform(0.0, min(20.0, (seconds - overlap) / 2 - 1))
    apart = length - overlap
    first = rng.uniform(0.1, seconds - length - apart - 0.1)
    begins = [round(begin * 25) / 25 for begin in (first, first + apart)]  # where pictures begin
    if rng.random() < 0.5:
        begins.reverse()
    return Case(
        begin_reference=begins[0],
        begin_video=begins[1],
        length=length,
        speed=rng.choice((0.0, 0.001, -0.001, 0.0003)),
        snr_db=rng.choice((None, 20.0, 10.0, 5.0, 0.0)),
        gain=rng.choice((1.0, 0.3, 0.05, 3.0)),
        codec=rng.choice(CODECS),
        video_codec=rng.choice(VIDEO_CODECS),
        rate=rng.choice((Fraction(25), Fraction(30), Fraction(30_000, 1001), Fraction(50))),
        has_sound=has_sound,
    )


def write_reference(path: Path, footage: Footage, case: Case) -> None:
    """Write the recording whose time line counts."""
    _write(path, footage, case, case.begin_reference, is_video=False)


def write_video(path: Path, footage: Footage, case: Case) -> None:
    """Write the recording that is looked for: other speed, noise, gain and codecs."""
    _write(path, footage, case, case.begin_video, is_video=True)


def _write(path: Path, footage: Footage, case: Case, begin: float, *, is_video: bool) -> None:
    speed = case.speed if is_video else 0.0
    codec, rate = case.codec if is_video else ("aac", 48_000)
    frames_per_second = case.rate if is_video else Fraction(25)
    noise = np.random.default_rng(int(begin * 1000))
    with av.open(str(path), "w") as out:
        stream = out.add_stream(case.video_codec if is_video else "libx264", rate=frames_per_second)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        sound = out.add_stream(codec, rate=rate, layout="mono") if case.has_sound else None
        for number in range(int(case.length * frames_per_second)):
            moment = begin + float(number / frames_per_second) * (1 + speed)
            picture = footage.pictures[min(round(moment * 25), len(footage.pictures) - 1)]
            if is_video:
                worse = picture * np.clip(case.gain, 0.4, 0.8) + noise.normal(0, 6, picture.shape)
                picture = np.clip(worse, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = number, 1 / frames_per_second
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if sound is not None:
            _write_sound(out, sound, _heard(footage, case, begin, rate, speed, is_video, noise), rate)


def _heard(
    footage: Footage,
    case: Case,
    begin: float,
    rate: int,
    speed: float,
    is_video: bool,
    noise: np.random.Generator,
) -> npt.NDArray[np.float32]:
    moments = begin + np.arange(int(case.length * rate)) / rate * (1 + speed)
    heard = np.interp(moments * RATE, np.arange(len(footage.sound)), footage.sound)
    if is_video:
        if case.snr_db is not None:
            heard += noise.normal(size=len(heard)) * heard.std() * 10 ** (-case.snr_db / 20)
        heard *= case.gain
    return np.clip(heard, -1, 1).astype(np.float32)


def _write_sound(
    out: av.container.OutputContainer,
    stream: av.AudioStream,
    samples: npt.NDArray[np.float32],
    rate: int,
) -> None:
    for begin in range(0, len(samples), 960):
        frame = av.AudioFrame.from_ndarray(samples[None, begin : begin + 960], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
        out.mux(stream.encode(frame))
    out.mux(stream.encode())
