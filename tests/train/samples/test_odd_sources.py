"""Training reads files without times and joined recordings as the runtime does: the same clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from media import counted, plain, write_video

from tsm_runtime.clips.stream import ClipOptions, ClipStream
from tsm_runtime.results import Segment
from tsm_runtime.video.reader import VideoReader
from tsm_train.config import Config, config_of
from tsm_train.data.lengths import look_up_length
from tsm_train.data.video import TrainingVideo
from tsm_train.samples.clips import ClipDataset, Labels
from tsm_train.samples.frame_store import FrameStore
from tsm_train.samples.stored_video import StoredVideo
from tsm_train.sections.training import StoreConfig

SIZE = 32
LABELS = Labels(("walk", "background"), ())
CHANGED = {"time_jitter": 0.5, "frame_jitter": 0.0, "flip": 0.0, "color": 0.0, "crop_scale": 1.0}


def run_of(window_seconds: float = 0.0, jitter: float = 0.0) -> Config:
    clip = {"interval_seconds": 0.5, "num_frames": 4, "size": SIZE, "window_seconds": window_seconds}
    content = {
        "name": "run",
        "data": {"annotations": "a.json", "videos": "videos"},
        "clip": clip,
        "augment": CHANGED | {"time_jitter": jitter},
    }
    return config_of(content, "run.toml", Path())


def stored(path: Path, rate: float | None = None) -> tuple[TrainingVideo, StoredVideo]:
    video = TrainingVideo(
        video_id="v", path=path, capture="v", subset="training", rate=rate,
        segments=(Segment(label="walk", start_seconds=0.0, end_seconds=1.0),),
    )  # fmt: skip
    return video, FrameStore(path.parent / "store", SIZE, StoreConfig()).add(path, "", rate)


def joined(path: Path) -> Path:
    """Two recordings of 1.2 s, one after the other, whose pictures differ."""
    parts = [
        write_video(path.parent / f"{level}.ts", (plain(level + n) for n in range(30))).read_bytes()
        for level in (20, 160)
    ]
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("window_seconds", [0.0, 0.9])
def test_clips_of_joined_recordings_are_those_of_the_runtime(
    tmp_path: Path, window_seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    path, config = joined(tmp_path / "v.ts"), run_of(window_seconds)
    video = stored(path)
    assert "its clock restarts at 1.20 s: no training clip crosses that" in caplog.text
    data = ClipDataset([video], LABELS, config)
    with VideoReader(path) as reader:
        clips = ClipStream(reader, config.clip_spec, ClipOptions(batch_size=1))
        deployed = [(int(batch.indices[0]), batch.frames[0]) for batch in clips]
    assert [k for _, k in data._samples] == [k for k, _ in deployed] == [0, 1, 3]
    for index, (_, frames) in enumerate(deployed):
        assert np.array_equal(frames, data[0, index][0].numpy())


def test_a_moved_clip_stays_within_its_recording(tmp_path: Path) -> None:
    data = ClipDataset([stored(joined(tmp_path / "v.ts"))], LABELS, run_of(jitter=1.0))
    for epoch in range(40):
        for index in range(len(data)):
            levels = data[epoch, index][0].float().mean((1, 2, 3))
            assert (levels > 100).all() or (levels < 100).all()


def test_a_stated_rate_is_that_of_training_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_video(
        tmp_path / "v.mjpeg", counted(40), codec="mjpeg", pixel_format="yuvj420p", container_format="mjpeg"
    )
    _, assumed = stored(path)
    assert "states no times: assumed at 25 frames per second; data.rate states another" in caplog.text
    caplog.clear()
    video, stated = stored(path, 10.0)
    assert not caplog.messages
    assert (assumed.duration_seconds, stated.duration_seconds) == (pytest.approx(1.6), pytest.approx(4.0))
    assert look_up_length(path, rate=10.0).seconds == pytest.approx(4.0)
    with VideoReader(path, rate=10.0) as reader:
        assert stated.times.tolist() == [timed.start_seconds for timed in reader.frames()]
    store = FrameStore(tmp_path / "store", SIZE, StoreConfig())
    assert store.open(path, "", video.rate) is not None
    assert store.open(path) is None  # of another rate
