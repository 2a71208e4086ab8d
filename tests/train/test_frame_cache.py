from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tsm_runtime.decode import VideoReader
from tsm_runtime.errors import RunError, VideoError
from tsm_runtime.frames import FrameConverter
from tsm_train import frame_cache
from tsm_train.frame_cache import cache_folder, cache_video


@pytest.fixture
def video(drawn_data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(drawn_data / "videos" / "training_0000.mp4", tmp_path / "video.mp4"))


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Videos that were opened, in order."""
    opened: list[Path] = []

    class Counting(VideoReader):
        def __init__(self, path: Path) -> None:
            opened.append(path)
            super().__init__(path)

    monkeypatch.setattr(frame_cache, "VideoReader", Counting)
    return opened


def test_holds_every_frame_as_the_runtime_converts_it(video: Path, tmp_path: Path) -> None:
    cached = cache_video(video, tmp_path / "cache", 32)
    with VideoReader(video) as reader:
        convert = FrameConverter(32)
        frames = [(t.start_seconds, t.end_seconds, np.array(convert(t.frame))) for t in reader.frames()]
    assert np.array_equal(cached.times, [start for start, _, _ in frames])
    assert cached.duration_seconds == frames[-1][1]
    assert np.array_equal(cached.frames, np.stack([picture for _, _, picture in frames]))
    assert cached.frames.dtype == np.uint8


def test_decodes_once_and_anew_when_something_changed(
    video: Path, tmp_path: Path, decodings: list[Path]
) -> None:
    folder = tmp_path / "cache"
    first, second = cache_video(video, folder, 32), cache_video(video, folder, 32)
    assert decodings == [video]
    assert np.array_equal(first.frames, second.frames)
    cache_video(video, folder, 40)
    assert len(decodings) == 2
    os.utime(video, (1, 1))
    cache_video(video, folder, 32)
    assert len(decodings) == 3


def test_an_interrupted_decoding_leaves_nothing(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(FrameConverter):
        calls = 0

        def __call__(self, frame: object) -> np.ndarray:
            Interrupted.calls += 1
            if Interrupted.calls == 10:
                raise KeyboardInterrupt
            return super().__call__(frame)

    monkeypatch.setattr(frame_cache, "FrameConverter", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache_video(video, tmp_path / "cache", 32)
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.undo()
    assert len(cache_video(video, tmp_path / "cache", 32).frames) == 150


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    with pytest.raises(VideoError, match=r"broken\.mp4: No such file"):
        cache_video(broken, tmp_path / "cache", 32)
    broken.write_bytes(b"no video at all")
    with pytest.raises(VideoError, match=r"broken\.mp4: "):
        cache_video(broken, tmp_path / "cache", 32)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_video_that_breaks_off_is_told(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class BreaksOff(VideoReader):
        @property
        def failure(self) -> str | None:
            return "the file ends"

        @failure.setter
        def failure(self, value: str | None) -> None: ...

    monkeypatch.setattr(frame_cache, "VideoReader", BreaksOff)
    cache_video(video, tmp_path / "cache", 32)
    said = capsys.readouterr().err
    assert said == f"{video}: breaks off after 6.00 s (the file ends); training uses that part\n"


def test_a_cache_that_cannot_be_written(video: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot store decoded frames"):
        cache_video(video, tmp_path / "file", 32)


def test_where_caches_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder("/somewhere") == Path("/somewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder("") == Path("/xdg/tsm-tal")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("") == Path.home() / ".cache" / "tsm-tal"
