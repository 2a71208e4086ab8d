"""The waveform under the timeline of a page."""

from __future__ import annotations

import base64
import json
import re
import wave
from pathlib import Path

import numpy as np
from fakes import result_of, seg
from media import write_levels

from tsm_runtime.outputs.report.content import Report, VideoReport
from tsm_runtime.outputs.report.page import report_page
from tsm_runtime.outputs.report.waveform import waveform


def write_wav(path: Path) -> Path:
    """Write 3 s at 8 kHz: silence, a loud second, a quiet one."""
    loudness = np.repeat([0.0, 0.8, 0.2], 8000)
    samples = loudness * np.sin(np.arange(24_000) * 0.5)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def test_peaks_over_the_length_of_the_timeline(tmp_path: Path) -> None:
    text = waveform(write_wav(tmp_path / "a.wav"), 6.0)
    assert text is not None
    peaks = np.frombuffer(base64.b64decode(text), np.uint8)
    second = len(peaks) / 6
    assert 1000 <= len(peaks) <= 1200
    assert peaks.max() == 255

    def loudest(start: float, end: float) -> int:
        return int(peaks[round(start * second) : round(end * second)].max())

    assert loudest(0.0, 0.95) < 5
    assert loudest(1.1, 1.9) > 240
    assert 50 < loudest(2.1, 2.9) < 80
    assert loudest(3.1, 6.0) < 5


def test_videos_without_sound_have_none(tmp_path: Path) -> None:
    video = write_levels(tmp_path / "mute.mp4", [(40, 1.0)])
    assert waveform(video, 1.0) is None
    assert waveform(tmp_path / "gone.mp4", 1.0) is None
    assert waveform(write_wav(tmp_path / "a.wav"), 0.0) is None


def test_the_page_holds_it(tmp_path: Path) -> None:
    result = result_of(seg("walk", 0.0, 1.0), video_id="a")
    report = Report(title="T", videos=(VideoReport(result=result, video=write_wav(tmp_path / "a.wav")),))
    page = report_page(report, tmp_path / "page.html")
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    (drawn,) = json.loads(text)["waveforms"]
    assert len(base64.b64decode(drawn)) > 500
