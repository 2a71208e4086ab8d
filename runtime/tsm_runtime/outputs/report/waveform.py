"""Loudness of a video's sound over time, for the timeline of a page."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np

from tsm_runtime.audio.reader import read_sound
from tsm_runtime.errors import UsageError, VideoError

_BINS = 1200
_LONGEST_SECONDS = 3 * 3600.0
"""Of a longer video no waveform is drawn: its samples would take a gigabyte of memory."""


def waveform(video: Path, duration_seconds: float) -> str | None:
    """Return the peaks of a video's sound, relative to the loudest one, as bytes in base64.

    Args:
        video: the file.
        duration_seconds: length of the timeline, over which the bytes are spread evenly.

    Returns:
        Up to 1,200 bytes; None where there is no sound, a silent one, or one that cannot be read.
    """
    if not 0 < duration_seconds <= _LONGEST_SECONDS:
        return None
    try:
        sound = read_sound(video)
    except (VideoError, UsageError):  # a page needs no waveform
        return None
    if sound is None or sound.is_silent:
        return None
    loud = np.abs(sound.samples[0][: round(duration_seconds * sound.rate)])
    per_bin = max(1, -(-round(duration_seconds * sound.rate) // _BINS))
    num_bins = -(-round(duration_seconds * sound.rate) // per_bin)
    padded = np.pad(loud, (0, num_bins * per_bin - len(loud)))
    peaks = padded.reshape(num_bins, per_bin).max(axis=1)
    scaled = np.rint(255 * peaks / max(float(peaks.max()), 1e-9)).astype(np.uint8)
    return base64.b64encode(scaled.tobytes()).decode("ascii")
