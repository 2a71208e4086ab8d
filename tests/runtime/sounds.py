"""Test files with sound: seeded onsets and noise, muxed with plain pictures or alone."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

RATE = 16_000


def scene(seconds: float, seed: int = 0) -> npt.NDArray[np.float32]:
    """Mono sound of a lively place: bursts of coloured noise and tones at irregular times, over a hiss."""
    rng = np.random.default_rng(seed)
    sound = 0.004 * rng.normal(size=round(seconds * RATE))
    for begin in np.sort(rng.uniform(0, seconds - 0.4, int(seconds * 4))):
        length = int(rng.uniform(0.05, 0.4) * RATE)
        times = np.arange(length) / RATE
        burst = np.exp(-times * rng.uniform(5, 40)) * rng.uniform(0.05, 0.3)
        carrier = np.sin(2 * np.pi * rng.uniform(200, 3000) * times) + 0.5 * rng.normal(size=length)
        sound[int(begin * RATE) :][:length] += burst * carrier
    return np.clip(sound, -1, 1).astype(np.float32)


def write_sound(
    path: Path,
    samples: npt.NDArray[np.floating],
    *,
    rate: int = RATE,
    codec: str = "aac",
    begin_seconds: float = 0.0,
    picture_seconds: float | None = None,
    languages: tuple[str, ...] = ("",),
    layout: str = "mono",
    gap: tuple[float, float] | None = None,
    loudness: tuple[float, ...] = (1.0,),
    interleaved: bool = True,
    picture_codec: str = "mpeg4",
    speed: float = 1.0,
) -> Path:
    """Write sound, with plain pictures unless `picture_seconds` is 0.

    Args:
        path: its suffix chooses the container.
        samples: (N,), the same in all channels, or (C, N).
        rate: samples per second.
        codec: of the sound.
        begin_seconds: of the sound, after the first picture.
        picture_seconds: length of the picture; default: that of the sound.
        languages: one for each track.
        layout: of the channels.
        gap: [start, end) in seconds of the sound that is left out, as if packets were lost.
        loudness: of each track.
        interleaved: else all pictures come before the sound.
        picture_codec: of the pictures.
        speed: of the samples, by the timestamps.
    """
    seconds = samples.shape[-1] / rate if picture_seconds is None else picture_seconds
    options = {} if interleaved else {"max_interleave_delta": "1"}
    with av.open(str(path), "w", options=options) as out:
        video = out.add_stream(picture_codec, rate=25) if seconds else None
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        tracks = [out.add_stream(codec, rate=rate, layout=layout) for _ in languages]
        for track, language in zip(tracks, languages, strict=True):
            if language:
                track.metadata["language"] = language
        for number in range(round(seconds * 25) if video is not None else 0):
            picture = np.full((48, 64, 3), number % 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        if video is not None:
            out.mux(video.encode())
        for track, gain in zip(tracks, loudness * len(tracks), strict=False):
            for frame in _frames(gain * samples, track, rate, layout, begin_seconds, gap, speed):
                out.mux(track.encode(frame))
            out.mux(track.encode())
    return path


def _frames(
    samples: npt.NDArray[np.floating],
    track: av.AudioStream,
    rate: int,
    layout: str,
    begin_seconds: float,
    gap: tuple[float, float] | None,
    speed: float,
) -> list[av.AudioFrame]:
    channels = av.AudioLayout(layout).nb_channels
    planes = np.broadcast_to(samples, (channels, samples.shape[-1])).astype(np.float32)
    size = 1024
    frames = []
    for begin in range(0, planes.shape[1], size):
        if gap and gap[0] <= begin / rate < gap[1]:
            continue
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(planes[:, begin : begin + size]), "fltp", layout
        )
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round(begin / speed) + round(begin_seconds * rate)
        frames.append(frame)
    return frames
