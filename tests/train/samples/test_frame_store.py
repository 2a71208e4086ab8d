from __future__ import annotations

import os
import pickle
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tsm_runtime.clips import joined
from tsm_runtime.errors import RunError, VideoError
from tsm_runtime.video.clock import TimedFrame
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.reader import VideoReader
from tsm_train.config import Config
from tsm_train.data.video import TrainingVideo
from tsm_train.samples import frame_store, store_videos
from tsm_train.samples.frame_store import FrameStore, stored_size
from tsm_train.samples.stored_video import MAGIC, StoredVideo
from tsm_train.sections.data import DataConfig
from tsm_train.sections.network import ClipConfig
from tsm_train.sections.training import StoreConfig

RAW, JPEG = StoreConfig(), StoreConfig(format="jpeg")


@pytest.fixture
def video(drawn_data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(drawn_data / "videos" / "training_0000.mp4", tmp_path / "video.mp4"))


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Videos that were opened to be stored, in order."""
    opened: list[Path] = []

    def counting(path: Path, *more: Any, **options: Any) -> Any:
        opened.append(path)
        return joined.open_reader(path, *more, **options)

    monkeypatch.setattr(frame_store, "open_reader", counting)
    return opened


def training_video(path: Path) -> TrainingVideo:
    return TrainingVideo(video_id=path.stem, path=path, capture=path.stem, subset="training", segments=())


def frames_of(video: Path, size: int) -> list[tuple[float, float, np.ndarray]]:
    with VideoReader(video) as reader:
        convert = FrameConverter(size)
        return [(t.start_seconds, t.end_seconds, np.array(convert(t.frame))) for t in reader.frames()]


def everything(stored: StoredVideo) -> np.ndarray:
    return stored.read(np.arange(len(stored.times)))


def test_holds_every_frame_as_the_runtime_converts_it(video: Path, tmp_path: Path) -> None:
    stored = FrameStore(tmp_path / "store", 32, RAW).add(video)
    frames = frames_of(video, 32)
    assert np.array_equal(stored.times, [start for start, _, _ in frames])
    assert stored.duration_seconds == frames[-1][1]
    pictures = everything(stored)
    assert pictures.dtype == np.uint8
    assert np.array_equal(pictures, np.stack([picture for _, _, picture in frames]))


def test_jpeg_is_near_and_small(video: Path, tmp_path: Path) -> None:
    store = FrameStore(tmp_path / "store", 96, JPEG)
    stored = store.add(video)
    frames = frames_of(video, 96)
    assert np.array_equal(stored.times, [start for start, _, _ in frames])
    exact = np.stack([picture for _, _, picture in frames]).astype(int)
    assert np.abs(everything(stored) - exact).mean() < 3
    assert store.path_of(video).stat().st_size < exact.size / 5


@pytest.mark.parametrize("settings", [RAW, JPEG], ids=["raw", "jpeg"])
def test_frames_in_any_order_and_several_times(video: Path, tmp_path: Path, settings: StoreConfig) -> None:
    stored = FrameStore(tmp_path / "store", 32, settings).add(video)
    whole, frames = everything(stored), np.array([7, 3, 3, 149, 7])
    assert np.array_equal(stored.read(frames), whole[frames])
    again = pickle.loads(pickle.dumps(stored))  # as a loading process gets it
    assert np.array_equal(again.read(frames), whole[frames])


def test_decodes_once(video: Path, tmp_path: Path, decodings: list[Path]) -> None:
    store = FrameStore(tmp_path / "store", 32, RAW)
    assert store.open(video) is None
    store_videos.store_videos(store, [training_video(video)])
    store_videos.store_videos(store, [training_video(video)])
    assert decodings == [video]
    opened = store.open(video)
    assert opened is not None
    assert np.array_equal(everything(opened), np.stack([p for _, _, p in frames_of(video, 32)]))


@pytest.mark.parametrize(
    ("size", "settings"), [(40, RAW), (32, JPEG), (32, StoreConfig(format="jpeg", quality=80))]
)
def test_another_size_or_kind_is_stored_beside(
    video: Path, tmp_path: Path, size: int, settings: StoreConfig
) -> None:
    first = FrameStore(tmp_path / "store", 32, RAW)
    first.add(video)
    if settings.quality == 80:
        FrameStore(tmp_path / "store", 32, JPEG).add(video)
    other = FrameStore(tmp_path / "store", size, settings)
    assert other.open(video) is None
    other.add(video)
    assert first.open(video) is not None


def test_a_changed_video_is_stored_anew_and_replaces_its_old_frames(video: Path, tmp_path: Path) -> None:
    store = FrameStore(tmp_path / "store", 32, RAW)
    store.add(video)
    os.utime(video, (1, 1))
    assert store.open(video) is None
    store.add(video)
    assert store.open(video) is not None
    assert len(list((tmp_path / "store").iterdir())) == 1


def test_videos_of_one_name_in_several_folders(video: Path, drawn_data: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Path(shutil.copy(drawn_data / "videos" / "training_0001.mp4", tmp_path / "other" / "video.mp4"))
    store = FrameStore(tmp_path / "store", 32, RAW)
    first, second = store.add(video), store.add(other)
    assert not np.array_equal(everything(first), everything(second))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(MAGIC, b"TSMFRAM1"),  # another version
        lambda data: data[:-100],
        lambda data: data[100:],
        lambda data: b"",
        lambda data: data[-20:],
        lambda data: data[:-200] + b"x" * 200,
        lambda data: data[: -len(MAGIC) - 8] + b"\xff" * 8 + MAGIC,
        lambda data: data.replace(b'"num_frames":150', b'"num_frames":999'),
    ],
)
def test_what_is_not_a_whole_file_of_this_version_is_made_anew(video: Path, tmp_path: Path, damage) -> None:
    store = FrameStore(tmp_path / "store", 32, JPEG)
    store.add(video)
    path = store.path_of(video)
    path.write_bytes(damage(path.read_bytes()))
    assert store.open(video) is None
    store_videos.store_videos(store, [training_video(video)])
    assert len(everything(store.open(video))) == 150


def test_a_file_that_is_spoilt_while_it_is_read(video: Path, tmp_path: Path) -> None:
    store = FrameStore(tmp_path / "store", 32, JPEG)
    stored = store.add(video)
    data = store.path_of(video).read_bytes()
    store.path_of(video).write_bytes(b"\0" * len(data))
    with pytest.raises(RunError, match=r"\.frames: stored frames cannot be read \("):
        stored.read(np.array([0]))
    store.path_of(video).write_bytes(data[:10])
    with pytest.raises(RunError, match="the file is shorter than it was"):
        stored.read(np.array([0]))
    store.path_of(video).unlink()
    with pytest.raises(RunError, match="No such file"):
        stored.read(np.array([0]))


def test_an_interrupted_decoding_leaves_nothing_and_keeps_what_is_complete(
    video: Path, drawn_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(FrameConverter):
        calls = 0

        def __call__(self, frame: object) -> np.ndarray:
            Interrupted.calls += 1
            if Interrupted.calls == 10:
                raise KeyboardInterrupt
            return super().__call__(frame)

    store = FrameStore(tmp_path / "store", 32, RAW)
    other = drawn_data / "videos" / "training_0001.mp4"
    store.add(other)
    monkeypatch.setattr(frame_store, "FrameConverter", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        store_videos.store_videos(store, [training_video(other), training_video(video)])
    assert list((tmp_path / "store").iterdir()) == [store.path_of(other)]
    monkeypatch.undo()
    store_videos.store_videos(store, [training_video(other), training_video(video)])
    assert store.open(video) is not None


def test_what_a_killed_program_left_is_removed(video: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    old, new = tmp_path / "store" / ".old.part", tmp_path / "store" / ".new.part"
    old.touch()
    new.touch()
    os.utime(old, (1, 1))
    store_videos.store_videos(FrameStore(tmp_path / "store", 32, RAW), [training_video(video)])
    assert (old.exists(), new.exists()) == (False, True)


def test_an_interrupt_stops_the_threads(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(VideoReader):
        def frames(self, start_seconds: float = 0.0) -> Iterator[TimedFrame]:
            first = next(super().frames())
            while True:
                yield first

    before = set(threading.enumerate())  # other tests' threads among them
    monkeypatch.setattr(joined, "VideoReader", Endless)
    monkeypatch.setattr(store_videos, "as_completed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store_videos.store_videos(FrameStore(tmp_path / "store", 32, RAW), [training_video(video)])
    assert list((tmp_path / "store").iterdir()) == []
    assert set(threading.enumerate()) <= before


def interrupted(jobs: object) -> Iterator[object]:
    raise KeyboardInterrupt
    yield


def test_what_cannot_be_read_is_named(video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, broken = FrameStore(tmp_path / "store", 32, RAW), tmp_path / "broken.mp4"
    with pytest.raises(VideoError, match=r"broken\.mp4: No such file"):
        store.add(broken)
    broken.write_bytes(b"no video at all")
    with pytest.raises(VideoError, match=r"broken\.mp4: "):
        store.add(broken)
    assert list((tmp_path / "store").iterdir()) == []
    both = [training_video(broken), training_video(video)]
    store_videos.store_videos(store, both, num_threads=2)
    assert caplog.messages[0].startswith(f"left out: {broken}: ")
    assert [found.path for found, _ in store_videos.open_stored(store, both)] == [video]
    with pytest.raises(VideoError, match=r"no training video can be read \(1 failed\)"):
        store_videos.open_stored(store, both[:1])


def test_a_video_that_breaks_off_is_reported(
    video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BreaksOff(VideoReader):
        @property
        def failure(self) -> str | None:
            return "the file ends"

        @failure.setter
        def failure(self, value: str | None) -> None: ...

    monkeypatch.setattr(joined, "VideoReader", BreaksOff)
    FrameStore(tmp_path / "store", 32, RAW).add(video)
    assert caplog.messages == [f"{video}: breaks off after 6.00 s (the file ends); training uses that part"]


def test_a_store_that_cannot_be_written(video: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot store decoded frames"):
        FrameStore(tmp_path / "file", 32, RAW).add(video)


@pytest.mark.parametrize("settings", [RAW, JPEG], ids=["raw", "jpeg"])
def test_the_size_is_known_before(drawn_data: Path, tmp_path: Path, settings: StoreConfig) -> None:
    videos = [training_video(path) for path in sorted((drawn_data / "videos").glob("training*"))]
    store = FrameStore(tmp_path / "store", 64, settings)
    num_frames, num_bytes = store_videos.estimate_bytes(store, videos)
    store_videos.store_videos(store, videos)
    taken = sum(path.stat().st_size for path in (tmp_path / "store").iterdir())
    assert num_frames == 3 * 150
    assert 0.8 < num_bytes / taken < 1.25


def test_a_store_that_does_not_fit_is_refused_before_decoding(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decodings: list[Path]
) -> None:
    class Little:
        free = 100_000

    monkeypatch.setattr(store_videos.shutil, "disk_usage", lambda path: Little)
    store = FrameStore(tmp_path / "store", 32, RAW)
    with pytest.raises(RunError) as caught:
        store_videos.store_videos(store, [training_video(video)])
    first, second = str(caught.value).splitlines()
    assert first == (
        f"150 frames of 1 video take about 460.8 kB in {tmp_path}/store, where 100.0 kB are free"
    )
    assert second.startswith("set data.cache to a folder on another disk, store.format to 'jpeg', or ")
    assert decodings == []


def test_a_large_store_is_reported(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store_videos, "_REPORTED_BYTES", 1000)
    store_videos.store_videos(FrameStore(tmp_path / "store", 32, RAW), [training_video(video)])
    assert "decoding: 150 frames of 1 video take about 460.8 kB in " in caplog.text


def test_where_stores_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    def folder(cache: str) -> Path:
        return FrameStore.of(
            Config(name="run", data=DataConfig(annotations="", videos="", cache=cache))
        ).folder

    assert folder("/somewhere") == Path("/somewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert folder("") == Path("/xdg/tsm-tal")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert folder("") == Path.home() / ".cache" / "tsm-tal"


def test_there_is_room_for_crops() -> None:
    def size(clip: int, store: int = 0) -> int:
        data = DataConfig(annotations="", videos="")
        return stored_size(
            Config(name="run", data=data, clip=ClipConfig(size=clip), store=StoreConfig(size=store))
        )

    assert [size(32), size(128), size(256), size(96, 144)] == [36, 144, 288, 144]
