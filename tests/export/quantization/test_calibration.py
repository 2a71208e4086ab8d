"""Clips for calibration: videos, places, number, and the messages when there are none."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media import cut, plain, write_video

from tsm_export.footage import calibration_videos, validation_videos
from tsm_export.quantization.calibration import calibration_clips, looks_of, spread_places
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.errors import UsageError
from tsm_runtime.video.panorama import WINDOWS
from tsm_runtime.video.reader import VideoReader
from tsm_train.config import Config
from tsm_train.sections.data import DataConfig
from tsm_train.sections.network import ClipConfig

SPEC = ClipSpec(interval_seconds=0.5, num_frames=4, size=32)


def levels(number: int, first: int) -> Iterable[npt.NDArray[np.uint8]]:
    """Grey pictures whose level encodes the video and the half second."""
    return (plain(first + 2 * (i // 5)) for i in range(number))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two videos of 10 and 30 intervals; 10 frames a second."""
    folder = tmp_path_factory.mktemp("videos")
    return [
        write_video(folder / "a.mp4", levels(50, 20), rate=10),
        write_video(folder / "b.mp4", levels(150, 100), rate=10),
    ]


def all_clips(video: Path) -> npt.NDArray[np.uint8]:
    """Every clip of a video, as the pipeline cuts them."""
    with VideoReader(video) as reader:
        return np.concatenate([batch.frames for batch in ClipStream(reader, SPEC)])


def test_clips_are_those_of_the_pipeline_spread_over_videos_and_time(videos: list[Path]) -> None:
    clips = calibration_clips(videos[::-1], SPEC, number=8)
    assert (clips.shape, clips.dtype) == ((8, 4, 32, 32, 3), np.uint8)
    everything = np.concatenate([all_clips(video) for video in videos])  # 10 of one, 30 of the other
    places = [int(np.flatnonzero((everything == clip).all(axis=(1, 2, 3, 4)))[0]) for clip in clips]
    assert {int(step) for step in np.diff(places)} == {5}  # 40 intervals, 8 clips
    assert sum(place < 10 for place in places) == 2


def test_the_seed_chooses(videos: list[Path]) -> None:
    first, again = (calibration_clips(videos, SPEC, number=4, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    others = [calibration_clips(videos, SPEC, number=4, seed=seed) for seed in range(2, 6)]
    assert any((first != other).any() for other in others)


def test_there_are_no_more_clips_than_intervals(videos: list[Path]) -> None:
    clips = calibration_clips(videos[:1], SPEC, number=100)
    np.testing.assert_array_equal(clips, all_clips(videos[0]))


def test_places_far_apart_are_sought(videos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeking to each clip gives the same clips as decoding all that is between them."""
    decoded = calibration_clips(videos, SPEC, number=6)
    monkeypatch.setattr("tsm_export.quantization.calibration._SEEK_OVER_SECONDS", 0.5)
    np.testing.assert_array_equal(calibration_clips(videos, SPEC, number=6), decoded)


def test_a_bad_video_is_left_out(
    videos: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    clips = calibration_clips([bad, videos[0]], SPEC, number=10)
    np.testing.assert_array_equal(clips, all_clips(videos[0]))
    assert f"not calibrated on: {bad}: not a readable video" in caplog.text


def test_a_video_that_ends_before_its_header_says(tmp_path: Path) -> None:
    """The clips that are not there are missing; the others come."""
    whole = write_video(
        tmp_path / "c.mp4", levels(100, 20), rate=10, container_options={"movflags": "faststart"}
    )
    expected = all_clips(whole)
    cut(whole, 0.85)
    clips = calibration_clips([whole], SPEC, number=20)
    assert 0 < len(clips) < len(expected) == 20
    np.testing.assert_array_equal(clips, expected[: len(clips)])


def test_no_clip_at_all(tmp_path: Path) -> None:
    short = write_video(tmp_path / "short.mp4", levels(4, 20), rate=10)
    with pytest.raises(
        UsageError, match=r"no clip of 0\.5 s for calibration in 1 video; give others: --calibrate"
    ):
        calibration_clips([short], SPEC)
    with pytest.raises(UsageError, match="in 0 videos"):
        calibration_clips([], SPEC)


@given(st.integers(0, 500), st.integers(1, 200), st.floats(0, 1, exclude_max=True))
def test_places_are_different_and_even(total: int, number: int, start: float) -> None:
    places = spread_places(total, number, start)
    assert len(places) == min(total, number)
    assert len(set(places.tolist())) == len(places)
    assert all(0 <= place < total for place in places)
    steps = np.diff(places)
    assert len(steps) == 0 or steps.max() - steps.min() <= 1


# --- whose videos --------------------------------------------------------------------------------


@pytest.fixture
def data(videos: list[Path], tmp_path: Path) -> DataConfig:
    """Annotations beside a folder of videos: `a` for training, `b` for validation."""
    (tmp_path / "videos").mkdir()
    for video in videos:
        (tmp_path / "videos" / video.name).symlink_to(video)
    write_truth(tmp_path / "truth.json", {"a": "training", "b": "validation"})
    return DataConfig(annotations=str(tmp_path / "truth.json"), videos=str(tmp_path / "videos"))


def write_truth(path: Path, subsets: dict[str, str]) -> Path:
    annotations = [{"label": "walk", "segment": [0.5, 2.0]}]
    database = {name: {"subset": subset, "annotations": annotations} for name, subset in subsets.items()}
    path.write_text(json.dumps({"database": database}))
    return path


def test_training_calibrates_and_validation_validates(data: DataConfig) -> None:
    assert [path.name for path in calibration_videos(data)] == ["a.mp4"]
    validation = validation_videos(data)
    assert validation.subset == "validation"
    assert [(video.video_id, path.name) for video, path in validation.videos] == [("b", "b.mp4")]


def test_given_videos_calibrate(data: DataConfig, videos: list[Path], tmp_path: Path) -> None:
    assert calibration_videos(data, videos[0].parent) == videos
    assert calibration_videos(data, videos[1]) == [videos[1]]
    nowhere = DataConfig(annotations="gone.json", videos="gone")
    assert calibration_videos(nowhere, videos[0].parent) == videos


def test_given_annotations(data: DataConfig, tmp_path: Path) -> None:
    """Subsets of the configuration's names, or else all; videos in `videos/` beside the file."""
    nowhere = DataConfig(annotations="gone.json", videos="gone")
    assert [p.name for p in calibration_videos(nowhere, tmp_path / "truth.json")] == ["a.mp4"]
    assert [v.video_id for v, _ in validation_videos(nowhere, tmp_path / "truth.json").videos] == ["b"]
    other = write_truth(tmp_path / "other.json", {"a": "test", "b": "test"})
    assert [p.name for p in calibration_videos(nowhere, other)] == ["a.mp4", "b.mp4"]
    assert validation_videos(nowhere, other).subset == ""
    assert len(validation_videos(nowhere, other).videos) == 2


def test_what_to_give_when_the_data_are_gone(tmp_path: Path) -> None:
    gone = DataConfig(annotations=str(tmp_path / "gone.json"), videos=str(tmp_path / "videos"))
    with pytest.raises(UsageError) as caught:
        calibration_videos(gone)
    assert str(caught.value) == (
        f"INT8 is calibrated on clips of your data, but {tmp_path / 'gone.json'}: cannot be read: No such"
        " file or directory\ngive a folder of videos like those it will run on: --calibrate FOLDER"
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"--calibrate .*empty: no video in this folder"):
        calibration_videos(gone, tmp_path / "empty")
    with pytest.raises(UsageError, match=r"none\.mp4: there is no such file or folder"):
        calibration_videos(gone, tmp_path / "none.mp4")


def test_annotations_without_their_videos(data: DataConfig, tmp_path: Path) -> None:
    away = DataConfig(annotations=data.annotations, videos=str(tmp_path / "away"))
    with pytest.raises(UsageError, match=r"but .*away: there is no such folder of videos\ngive a folder"):
        calibration_videos(away)
    with pytest.raises(UsageError, match="away: there is no such folder of videos"):
        validation_videos(away)
    write_truth(tmp_path / "truth.json", {"z": "training", "b": "validation"})
    with pytest.raises(UsageError, match=r"but .*z\.\*: annotated, but there is no such video"):
        calibration_videos(data)


def test_validation_needs_actions(data: DataConfig, tmp_path: Path) -> None:
    truth = json.loads((tmp_path / "truth.json").read_text())
    truth["database"]["b"]["annotations"] = []
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(UsageError, match="subset 'validation': no action in its 1 video"):
        validation_videos(data)


def test_all_looks_are_calibrated_on(tmp_path: Path) -> None:
    picture = np.concatenate([plain(20, (32, 48)), plain(220, (32, 48))], axis=1)
    video = write_video(tmp_path / "eyes.mp4", [picture] * 40, rate=10)
    eyes = Config(name="a", data=DataConfig(root="x", views=("binocular",), eyes="both"))
    specs = looks_of(eyes)
    assert [spec.crop for spec in specs] == ["left", "right"]
    small = [replace(spec, num_frames=4, size=32) for spec in specs]
    clips = calibration_clips([video], small, number=8)
    means = clips.mean(axis=(1, 2, 3, 4))
    assert ((means < 60).sum(), (means > 180).sum()) == (4, 4)
    windows = msgspec.structs.replace(eyes, clip=ClipConfig(projection="equirectangular"))
    assert tuple(spec.crop for spec in looks_of(windows)) == WINDOWS
