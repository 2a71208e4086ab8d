"""Sounds for drawn videos: some actions are only heard, some only seen, and some need both.

    only heard    speaking, ringing, door: anywhere in a video, whatever is seen
    need both     clapping becomes `clapping` where it is heard, `clapping silently` where it is not; claps
                  from outside the picture are no action
    only seen     all other actions make no sound

Over it all lies the noise of a place; each sound has a loudness of its own and the reverberation of its
video.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from tsm_runtime.files import write_whole

RATE = 16_000
HEARD = ("door", "ringing", "speaking")
"""Actions that are only heard."""
SILENT_CLAPS = "clapping silently"

_CLAPS = "clapping"
_SECONDS = {"door": (0.8, 1.4), "ringing": (1.0, 2.5), "speaking": (1.2, 3.5)}
_GAP_SECONDS = (0.8, 3.5)

Samples = npt.NDArray[np.float64]
Span = tuple[float, float]


def add_sounds(ground_truth: Path, videos: Path, seed: int, on_video: Callable[[int], object] = id) -> None:
    """Give drawn videos a sound track each, and their ground truth the actions that are heard.

    Args:
        ground_truth: as `draw_dataset` wrote it; replaced when all videos have their sound.
        videos: folder of the videos, whose pictures stay as they are.
        seed: fixes everything that is random.
        on_video: called with the number of finished videos.
    """
    document = json.loads(ground_truth.read_text(encoding="utf-8"))
    for number, (video_id, entry) in enumerate(document["database"].items(), start=1):
        rng = np.random.default_rng([seed, number])
        spans = [(a["label"], tuple(a["segment"])) for a in entry["annotations"]]
        truth, samples = sounds_of(spans, entry["duration"], rng)
        _mux(videos / f"{video_id}.mp4", samples)
        entry["annotations"] = [{"label": label, "segment": list(span)} for label, span in truth]
        on_video(number)
    write_whole(ground_truth, json.dumps(document, indent=1) + "\n")


def sounds_of(
    seen: list[tuple[str, Span]], seconds: float, rng: np.random.Generator
) -> tuple[list[tuple[str, Span]], npt.NDArray[np.float32]]:
    """Return what is true of a video with its sounds, and the sounds.

    Args:
        seen: actions that are drawn, label and [start, end).
        seconds: length of the video.
        rng: where chance comes from.

    Returns:
        Labels and spans in order of time, and (N,) samples in [-1, 1] at 16 kHz.
    """
    dry = np.zeros(round(seconds * RATE))
    truth: list[tuple[str, Span]] = []
    for label, span in seen:
        is_heard = label == _CLAPS and rng.random() < 0.5
        if is_heard:
            _place(dry, span[0], _claps(span[1] - span[0], rng), rng)
        truth.append((label if label != _CLAPS or is_heard else SILENT_CLAPS, span))
    truth += _add_heard(dry, seconds, rng)
    _add_distractors(dry, [span for label, span in seen if label == _CLAPS], seconds, rng)
    wet = _reverberated(dry, rng) + _room(len(dry), rng)
    loudest = max(1.0, float(np.abs(wet).max()))
    return sorted(truth, key=lambda each: (each[1], each[0])), (wet / loudest).astype(np.float32)


def _add_heard(dry: Samples, seconds: float, rng: np.random.Generator) -> list[tuple[str, Span]]:
    found: list[tuple[str, Span]] = []
    now = float(rng.uniform(*_GAP_SECONDS))
    while True:
        label = str(rng.choice(HEARD))
        length = round(float(rng.uniform(*_SECONDS[label])) * 25) / 25
        begin = round(now * 25) / 25
        if begin + length > seconds - 0.2:
            return found
        _place(dry, begin, _MAKERS[label](length, rng), rng)
        found.append((label, (begin, round(begin + length, 2))))
        now = begin + length + float(rng.uniform(*_GAP_SECONDS))


def _add_distractors(dry: Samples, claps: list[Span], seconds: float, rng: np.random.Generator) -> None:
    """Add claps from outside the picture at times without a visible clap."""
    for _ in range(int(rng.integers(0, 4))):
        length = float(rng.uniform(1.0, 2.5))
        begin = float(rng.uniform(0, max(0.1, seconds - length)))
        if all(begin + length < a - 0.3 or begin > b + 0.3 for a, b in claps):
            _place(dry, begin, _claps(length, rng), rng)


def _place(dry: Samples, begin: float, sound: Samples, rng: np.random.Generator) -> None:
    first = round(begin * RATE)
    part = sound[: max(0, len(dry) - first)]
    loudness = float(np.exp(rng.uniform(np.log(0.08), np.log(0.5))))
    dry[first : first + len(part)] += loudness * part / (np.abs(part).max(initial=0.0) + 1e-9)


def _times(seconds: float) -> Samples:
    return np.arange(round(seconds * RATE)) / RATE


def _coloured(count: int, low: float, high: float, rng: np.random.Generator) -> Samples:
    """Noise between two frequencies."""
    spectrum = np.fft.rfft(rng.normal(size=count))
    frequencies = np.fft.rfftfreq(count, 1 / RATE)
    spectrum[(frequencies < low) | (frequencies > high)] = 0.0
    return np.asarray(np.fft.irfft(spectrum, count))


def _claps(seconds: float, rng: np.random.Generator) -> Samples:
    out = np.zeros(round(seconds * RATE))
    pause = float(rng.uniform(0.2, 0.35))
    centre = float(rng.uniform(900, 2200))
    for begin in np.arange(0.03, seconds - 0.05, pause):
        first = round((begin + float(rng.uniform(-0.015, 0.015))) * RATE)
        length = min(round(0.05 * RATE), len(out) - first)
        burst = _coloured(round(0.05 * RATE), centre / 1.8, centre * 1.8, rng)[:length]
        out[first : first + length] += burst * np.exp(-np.arange(length) / (0.008 * RATE))
    return out


def _speech(seconds: float, rng: np.random.Generator) -> Samples:
    """A buzz with a voice's pitch and formants that change from syllable to syllable."""
    t = _times(seconds)
    pitch = float(rng.uniform(95, 240)) * (1 + 0.08 * np.sin(2 * np.pi * rng.uniform(0.4, 1.2) * t))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    out = np.zeros(len(t))
    now = 0.0
    while now < seconds:
        length = float(rng.uniform(0.12, 0.28))
        part = slice(round(now * RATE), round((now + length) * RATE))
        formants = rng.uniform((300, 900, 2300), (800, 2200, 3200))
        count = len(t[part])
        for k in range(1, 28):
            hertz = k * pitch[part]
            gain = sum(np.exp(-(((hertz - formant) / 160) ** 2)) for formant in formants) + 0.02
            out[part] += gain / np.sqrt(k) * np.sin(k * phase[part])
        out[part] *= np.sin(np.pi * np.arange(count) / max(count, 1)) ** 0.7
        now += length + float(rng.uniform(0.0, 0.06))
    return out


def _ringing(seconds: float, rng: np.random.Generator) -> Samples:
    t = _times(seconds)
    low = float(rng.uniform(600, 1400))
    warble = float(rng.uniform(8, 18))
    hertz = np.where(np.sin(2 * np.pi * warble * t) > 0, low, low * 1.26)
    tone = np.sin(2 * np.pi * np.cumsum(hertz) / RATE)
    return np.asarray(tone + 0.3 * np.sin(4 * np.pi * np.cumsum(hertz) / RATE))


def _door(seconds: float, rng: np.random.Generator) -> Samples:
    """A creak, then a thud."""
    t = _times(seconds)
    creak = np.sin(2 * np.pi * np.cumsum(rng.uniform(250, 400) + 150 * t / seconds) / RATE)
    pulses = (np.sin(2 * np.pi * rng.uniform(25, 45) * t) > 0.6).astype(float)
    out = 0.3 * creak * pulses * (t < 0.65 * seconds)
    after = np.maximum(t - 0.65 * seconds, 0.0)
    thud = _coloured(len(t), 40, 350, rng)
    return np.asarray(out + 4.0 * thud * np.exp(-after * 12) * (t >= 0.65 * seconds))


_MAKERS: Mapping[str, Any] = {"door": _door, "ringing": _ringing, "speaking": _speech}


def _reverberated(dry: Samples, rng: np.random.Generator) -> Samples:
    decay = float(rng.uniform(0.15, 0.6))
    tail = _times(decay)
    response = rng.normal(size=len(tail)) * np.exp(-6.9 * tail / decay) * float(rng.uniform(0.01, 0.04))
    response[0] = 1.0
    size = 1 << (len(dry) + len(response)).bit_length()
    return np.asarray(np.fft.irfft(np.fft.rfft(dry, size) * np.fft.rfft(response, size), size)[: len(dry)])


def _room(count: int, rng: np.random.Generator) -> Samples:
    """Noise that falls off towards high frequencies, and a hum."""
    spectrum = np.fft.rfft(rng.normal(size=count))
    spectrum /= np.maximum(np.fft.rfftfreq(count, 1 / RATE), 60.0) ** float(rng.uniform(0.4, 0.9))
    noise = np.fft.irfft(spectrum, count)
    hum = np.sin(2 * np.pi * float(rng.choice((50.0, 60.0, 100.0))) * np.arange(count) / RATE)
    level = float(np.exp(rng.uniform(np.log(0.002), np.log(0.02))))
    return np.asarray(level * (noise / noise.std() + 0.3 * hum))


def _mux(video: Path, samples: npt.NDArray[np.float32]) -> None:
    """Put a sound track beside the pictures of a video, which are copied."""
    temporary = video.with_name(f".{video.stem}.sound.mp4")
    try:
        with av.open(str(video)) as source, av.open(str(temporary), "w") as out:
            pictures = source.streams.video[0]
            copied = out.add_stream_from_template(pictures)
            sound = out.add_stream("aac", rate=RATE, layout="mono")
            for packet in source.demux(pictures):
                if packet.dts is not None:
                    packet.stream = copied
                    out.mux(packet)
            for begin in range(0, len(samples), 1024):
                part = np.ascontiguousarray(samples[None, begin : begin + 1024])
                frame = av.AudioFrame.from_ndarray(part, "fltp", "mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE, begin, Fraction(1, RATE)
                out.mux(sound.encode(frame))
            out.mux(sound.encode())
        temporary.replace(video)
    finally:
        temporary.unlink(missing_ok=True)
