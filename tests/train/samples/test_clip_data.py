from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.errors import UsageError
from tsm_runtime.results import BACKGROUND, Segment
from tsm_runtime.video.reader import VideoReader
from tsm_train.config import Config
from tsm_train.data.dataset import open_data
from tsm_train.data.interval_labels import interval_label
from tsm_train.data.video import TrainingVideo
from tsm_train.data.video_files import find_video
from tsm_train.samples.clips import NO_FRAME, NO_SCENE, ClipDataset, Labels, covering_labels
from tsm_train.samples.frame_store import FrameStore
from tsm_train.samples.stored_video import StoredVideo
from tsm_train.sections.data import DataConfig
from tsm_train.sections.network import ClipConfig, ModelConfig
from tsm_train.sections.training import AugmentConfig, StoreConfig, TrainConfig

STILL = AugmentConfig(flip=0.0, crop_scale=1.0, color=0.0, time_jitter=0.0)
LABELS = Labels(("walk", "wave", BACKGROUND), ("hall", "park"))


def config(augment: AugmentConfig = STILL, seed: int = 0, **clip: Any) -> Config:
    return Config(
        name="run",
        data=DataConfig(annotations="", videos=""),
        clip=ClipConfig(**{"interval_seconds": 0.5, "num_frames": 4, "size": 32, **clip}),
        train=TrainConfig(seed=seed),
        augment=augment,
    )


class Clock(StoredVideo):
    """A video whose frame number n is a picture of the value n."""

    def read(self, indices: np.ndarray) -> np.ndarray:
        return np.repeat(indices.astype(np.uint8), np.prod(self.shape)).reshape(len(indices), *self.shape)


def clock(seconds: float, size: int = 32, rate: float = 25.0) -> StoredVideo:
    count = round(seconds * rate)
    times = np.arange(count) / rate
    return Clock(Path("clock"), (size, size, 3), False, np.zeros(count + 1, np.int64), times, seconds)


def annotated(*segments: tuple[str, float, float], scene: str | None = "park") -> TrainingVideo:
    return TrainingVideo(
        video_id="video",
        path=Path("video.mp4"),
        capture="video",
        subset="training",
        scene=scene,
        segments=tuple(Segment(label=n, start_seconds=a, end_seconds=b) for n, a, b in segments),
    )


def test_labels_come_from_the_data_background_last(drawn_data: Path) -> None:
    data = open_data(DataConfig(root=str(drawn_data)), 0.5)
    labels = Labels.of(data.actions, data.scenes, ModelConfig())
    database = json.loads((drawn_data / "ground_truth.json").read_text())["database"].values()
    there = {a["label"] for video in database if video["subset"] == "training" for a in video["annotations"]}
    assert labels.actions == (*sorted(there), BACKGROUND)
    assert labels.scenes == tuple(sorted(labels.scenes)) != ()


def test_background_is_the_last_output_of_a_softmax_head_and_none_of_a_sigmoid_head() -> None:
    softmax = Labels.of(("walk", "wave"), ("hall",), ModelConfig())
    assert (softmax.actions, softmax.scenes, softmax.head) == (
        ("walk", "wave", BACKGROUND),
        ("hall",),
        "softmax",
    )
    sigmoid = Labels.of(("walk", "wave"), ("hall",), ModelConfig(head="sigmoid"))
    assert (sigmoid.actions, sigmoid.scenes) == (("walk", "wave"), ("hall",))
    assert (softmax.head, sigmoid.head) == ("softmax", "sigmoid")
    assert Labels.of(("walk",), ("hall",), ModelConfig(scene_head=False)).scenes == ()


@pytest.mark.parametrize("actions", [(), (BACKGROUND,), (BACKGROUND, "walk"), ("a", BACKGROUND, "b")])
def test_labels_without_an_action_or_with_background_elsewhere(actions: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="then 'background'"):
        Labels(actions, ())


@pytest.mark.parametrize("t", [0.1, 0.25, 0.3, 0.5, 1.0, 2.4])
def test_every_whole_interval_is_a_sample(t: float) -> None:
    lengths = (2.4, 1.0, 0.48, 3.32)
    videos = [(annotated(), clock(seconds)) for seconds in lengths]
    data = ClipDataset(videos, LABELS, config(interval_seconds=t))
    assert len(data) == sum(math.floor(seconds / t + 1e-6) for seconds in lengths)


def test_no_video_as_long_as_an_interval() -> None:
    with pytest.raises(UsageError, match=r"no training video is as long as one interval of 0\.5 s"):
        ClipDataset([(annotated(), clock(0.48))], LABELS, config())


def test_frames_actions_and_scenes_of_the_grid() -> None:
    videos = [
        (annotated(("wave", 0.5, 1.0)), clock(1.6)),
        (annotated(("walk", 0.0, 0.3), scene="hall"), clock(0.6)),
        (annotated(scene=None), clock(0.6)),
    ]
    data = ClipDataset(videos, LABELS, config())
    samples = [data[0, index] for index in range(len(data))]
    assert [(action, scene) for _, action, scene in samples] == [
        (2, 1),
        (1, 1),
        (2, 1),
        (0, 0),
        (2, NO_SCENE),
    ]
    clip = samples[1][0]
    assert (clip.shape, clip.dtype) == ((4, 32, 32, 3), torch.uint8)
    moments = 0.5 + (np.arange(4) + 0.5) * 0.125
    assert clip[:, 0, 0, 0].tolist() == np.floor(moments * 25 + 1e-6).astype(int).tolist()


@pytest.mark.parametrize("window_seconds", [0.0, 1.9])
def test_clips_are_those_of_the_runtime(drawn_data: Path, window_seconds: float) -> None:
    """Stored at the model's size and unchanged, a training clip equals the deployed one, pixel by pixel."""
    path = drawn_data / "videos" / "training_0001.mp4"
    cached = FrameStore(drawn_data / "cache", 48, StoreConfig()).add(path)
    settings = config(interval_seconds=0.7, num_frames=8, size=48, window_seconds=window_seconds)
    data = ClipDataset([(annotated(), cached)], LABELS, settings)
    with VideoReader(path) as reader:
        deployed = list(ClipStream(reader, settings.clip_spec))
    assert len(deployed) == len(data) == 8
    for index, batch in enumerate(deployed):
        assert np.array_equal(batch.frames[0], data[0, index][0].numpy())


def test_chance_depends_on_seed_epoch_and_sample_alone() -> None:
    videos = [(annotated(("walk", 0.0, 3.0)), clock(6.0, size=36))]
    first, again, other = (ClipDataset(videos, LABELS, config(AugmentConfig(), seed)) for seed in (0, 0, 1))
    _ = again[3, 5], again[0, 0]  # earlier requests do not matter
    assert torch.equal(first[2, 7][0], again[2, 7][0])
    assert first[2, 7][1:] == again[2, 7][1:]
    assert not torch.equal(first[2, 7][0], first[3, 7][0])
    assert not torch.equal(first[2, 7][0], other[2, 7][0])


def test_a_moved_interval_takes_its_label_along() -> None:
    rate = 25.0
    annotation = annotated(("walk", 0.8, 2.1), ("wave", 2.1, 3.3))
    data = ClipDataset(
        [(annotation, clock(4.0))], LABELS, config(AugmentConfig(flip=0, crop_scale=1, color=0))
    )
    starts = set()
    for epoch in range(40):
        for index in range(len(data)):
            clip, action, _ = data[epoch, index]
            start = float(clip[0, 0, 0, 0]) / rate - 0.5 * 0.5 / 4  # to within a frame
            assert -1 / rate - 1e-6 <= start <= 3.5 + 1e-6
            assert abs(start - index * 0.5) <= 0.25 + 1 / rate
            starts.add(start)
            candidates = {
                interval_label(annotation.segments, moved, moved + 0.5)
                for moved in np.linspace(max(start, 0.0), start + 1 / rate, 20)
            }
            assert LABELS.actions[action] in candidates
    assert len(starts) > 50  # of about 88 frames


def test_a_missing_video_is_named(drawn_data: Path, tmp_path: Path) -> None:
    videos = drawn_data / "videos"
    assert find_video(videos, "training_0000") == videos / "training_0000.mp4"
    (tmp_path / "other.webm").touch()
    assert find_video(tmp_path, "other") == tmp_path / "other.webm"
    with pytest.raises(UsageError, match=r"lost\.\*: annotated, but there is no such video"):
        find_video(videos, "lost")


def test_frames_move_within_their_part_of_the_interval() -> None:
    settings = AugmentConfig(flip=0, crop_scale=1, color=0, time_jitter=0, frame_jitter=1.0)
    data = ClipDataset([(annotated(), clock(2.0, rate=100.0))], LABELS, config(settings))
    seen = [set() for _ in range(4)]
    for epoch in range(60):
        for place, number in enumerate(data[epoch, 1][0][:, 0, 0, 0].tolist()):
            part = (number / 100 - 0.5) / 0.125 - place  # 0 to 1 within the place's part
            assert -0.09 <= part < 1
            seen[place].add(number)
    assert all(len(numbers) >= 10 for numbers in seen)  # of 12 or 13


def test_a_sigmoid_head_learns_every_label_that_covers_half() -> None:
    segments = annotated(("walk", 0.0, 9.0), ("wave", 1.0, 1.25), ("wave", 2.0, 2.2)).segments
    assert covering_labels(segments, 1.0, 1.5) == {"walk", "wave"}
    assert covering_labels(segments, 2.0, 2.5) == {"walk"}
    assert covering_labels(segments, 9.0, 9.5) == frozenset()
    labels = Labels(("walk", "wave"), ())
    data = ClipDataset([(annotated(("walk", 0, 2), ("wave", 1.0, 2.0)), clock(2.6))], labels, config())
    targets = [data[0, index][1] for index in range(len(data))]
    assert [t.tolist() for t in targets] == [[1, 0], [1, 0], [1, 1], [1, 1], [0, 0]]
    assert targets[0].dtype == torch.float32
    assert data[0, 0][2] == NO_SCENE  # a single-task model of videos that have scenes


def test_classes_are_those_of_the_grid_and_of_several_the_rarest() -> None:
    video = annotated(("walk", 0, 2), ("wave", 1.0, 1.5))
    assert ClipDataset([(video, clock(2.6))], LABELS, config()).classes() == [
        "walk",
        "walk",
        "wave",
        "walk",
        BACKGROUND,
    ]
    several = ClipDataset([(video, clock(2.6))], Labels(("walk", "wave"), ()), config())
    assert several.classes() == ["walk", "walk", "wave", "walk", BACKGROUND]


def mirrored_target(label: str, head: str = "softmax", **settings: Any) -> str:
    """What a clip of this label is learnt as when every clip is mirrored."""
    names = ("left", "right", "walk", *([BACKGROUND] if head == "softmax" else []))
    augment = AugmentConfig(flip=1.0, crop_scale=1, color=0, time_jitter=0, **settings)
    video = annotated((label, 0, 1)) if label != BACKGROUND else annotated()
    target = ClipDataset([(video, clock(1.0))], Labels(names, ("park",)), config(augment))[0, 0][1]
    return names[int(target.argmax()) if isinstance(target, torch.Tensor) else target]


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_labels_that_mean_another_in_a_mirror_are_exchanged(head: str) -> None:
    pairs = (("left", "right"),)
    assert mirrored_target("left", head, flip_pairs=pairs) == "right"
    assert mirrored_target("right", head, flip_pairs=pairs) == "left"
    assert mirrored_target("walk", head, flip_pairs=pairs) == "walk"


def test_labels_without_meaning_in_a_mirror_are_not_mirrored() -> None:
    class Ramp(Clock):
        def read(self, indices: np.ndarray) -> np.ndarray:
            row = np.arange(self.shape[1], dtype=np.uint8)[None, None, :, None]
            return np.broadcast_to(row, (len(indices), *self.shape)).copy()

    ramp = Ramp(Path("ramp"), (32, 32, 3), False, np.zeros(51, np.int64), np.arange(50) / 25, 2.0)
    augment = AugmentConfig(flip=1.0, crop_scale=1, color=0, time_jitter=0, never_flip=("walk",))
    data = ClipDataset([(annotated(("walk", 0, 1), ("wave", 1, 2)), ramp)], LABELS, config(augment))
    first_columns = [int(data[0, index][0][0, 0, 0, 0]) for index in range(4)]
    assert first_columns == [0, 0, 31, 31]


def test_a_label_to_flip_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"no action 'lef' in the data; did you mean 'left'\?"):
        mirrored_target("left", never_flip=("lef",))
    with pytest.raises(UsageError, match="no action 'background'"):
        mirrored_target("left", flip_pairs=(("left", BACKGROUND),))


def with_frame_loss(tolerance: float, augment: AugmentConfig = STILL) -> Config:
    train = TrainConfig(frame_loss=1.0, frame_tolerance_seconds=tolerance)
    return Config(
        name="run",
        data=DataConfig(annotations="", videos=""),
        clip=ClipConfig(interval_seconds=1.0, num_frames=4, size=32),
        train=train,
        augment=augment,
    )


def test_frames_get_the_labels_of_their_slices() -> None:
    video = annotated(("walk", 0.0, 0.5), ("wave", 0.6, 2.0))
    data = ClipDataset([(video, clock(2.0))], LABELS, with_frame_loss(0.0))
    assert [sample[3].tolist() for sample in (data[0, 0], data[0, 1])] == [[0, 0, 1, 1], [1, 1, 1, 1]]


def test_frames_near_a_bound_have_no_target() -> None:
    video = annotated(("walk", 0.0, 0.5), ("wave", 0.6, 2.0))
    softmax = ClipDataset([(video, clock(2.0))], LABELS, with_frame_loss(0.1))
    assert softmax[0, 0][3].tolist() == [0, 0, NO_FRAME, 1]  # middles 0.125, 0.375, 0.625, 0.875
    sigmoid = ClipDataset([(video, clock(2.0))], Labels(("walk", "wave"), ()), with_frame_loss(0.1))
    target = sigmoid[0, 0][3]
    assert target.isnan().all(1).tolist() == [False, False, True, False]
    assert target[[0, 1, 3]].tolist() == [[1, 0], [1, 0], [0, 1]]


def test_frame_labels_are_mirrored_with_the_clip() -> None:
    video = annotated(("walk", 0.0, 0.5), ("wave", 0.5, 2.0))
    mirror = AugmentConfig(
        flip=1.0, crop_scale=1.0, color=0.0, time_jitter=0.0, flip_pairs=(("walk", "wave"),)
    )
    data = ClipDataset([(video, clock(2.0))], LABELS, with_frame_loss(0.0, mirror))
    assert data[0, 0][3].tolist() == [1, 1, 0, 0]


def test_without_frame_loss_there_are_no_frame_targets() -> None:
    assert len(ClipDataset([(annotated(), clock(2.0))], LABELS, config())[0, 0]) == 3
