"""Videos of the user's data for calibration and for validation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.files import is_folder
from tsm_runtime.formats.annotations import read_annotations
from tsm_runtime.formats.ground_truth import GroundTruth, VideoAnnotation
from tsm_runtime.video.finding import list_inputs
from tsm_train.data.dataset import TrainingData, open_data
from tsm_train.data.places import TAL_FOLDER
from tsm_train.data.video import TrainingVideo
from tsm_train.data.video_files import find_video
from tsm_train.sections.data import DataConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Annotated videos with their files, and the name of the subset they are."""

    subset: str
    videos: tuple[tuple[VideoAnnotation | TrainingVideo, Path], ...]


def calibration_videos(data: DataConfig, given: Path | None = None) -> list[Path]:
    """Return the videos that INT8 takes its ranges from: the training videos, or those that are given.

    Args:
        data: of the checkpoint's configuration.
        given: a folder of videos, one video, or annotations; of annotations the training subset is taken
            where there is one.

    Raises:
        UsageError: there are none; the message says what to give.
    """
    if given is not None and not _is_annotations(given):
        return _videos_of(given)
    try:
        if given is None:
            opened = _opened(data)
            return list(dict.fromkeys(video.path for video in _some(opened, opened.training)))
        truth, folder = _annotated(data, given)
        names = {video.subset for video in truth.videos}
        chosen = truth.subset(data.training_subset) if data.training_subset in names else truth
        return [find_video(folder, video.video_id) for video in chosen.videos]
    except UsageError as error:
        raise UsageError(
            f"INT8 is calibrated on clips of your data, but {error}\n"
            "give a folder of videos like those it will run on: --calibrate FOLDER"
        ) from error


def validation_videos(data: DataConfig, given: Path | None = None) -> Validation:
    """Return the videos that accuracy is measured on: the validation videos, or those that are given.

    Args:
        data: of the checkpoint's configuration.
        given: annotations; of these the validation subset is taken where there is one, else all.

    Raises:
        UsageError: there are none, or `given` holds no annotations.
    """
    if given is None:
        opened = _opened(data)
        # A model of both eyes is deployed with one.
        shown = [v for v in _some(opened, opened.validation) if v.crop == data.crop or not data.crop]
        return Validation(
            subset=opened.config.validation_subset, videos=tuple((video, video.path) for video in shown)
        )
    truth, folder = _annotated(data, given)
    subset = data.validation_subset
    if subset not in {video.subset for video in truth.videos}:
        chosen, subset = truth, ""
    else:
        chosen = truth.subset(subset)
    if not chosen.action_labels:
        raise UsageError(f"{given}: no action is annotated in subset {subset!r}")
    videos = tuple((video, find_video(folder, video.video_id)) for video in chosen.videos)
    return Validation(subset=subset, videos=videos)


def _is_annotations(path: Path) -> bool:
    return path.suffix.lower() in (".json", ".gz", ".csv") or path.name == TAL_FOLDER


def _videos_of(path: Path) -> list[Path]:
    if not path.exists():
        raise UsageError(f"--calibrate {path}: there is no such file or folder")
    inputs, problems = list_inputs([path])
    if problems:
        raise UsageError(f"--calibrate {problems[0]}")
    return [video.path for video in inputs]


def _opened(data: DataConfig) -> TrainingData:
    # The length of intervals matters to checks only, and training made those.
    return open_data(data, interval_seconds=1.0)


def _some(opened: TrainingData, videos: tuple[TrainingVideo, ...]) -> tuple[TrainingVideo, ...]:
    if not any(video.segments for video in videos):
        raise UsageError((opened.problems.errors or opened.problems.found)[0].message)
    return videos


def _annotated(data: DataConfig, given: Path) -> tuple[GroundTruth, Path]:
    """Return annotations and the folder of their videos; in the layout of 360+x that of the first view."""
    near = [given.parent / name for name in ("videos", data.views[0], "")]
    folders = [*near, *([Path(data.videos)] if data.videos else [])]
    folder = next((each for each in folders if is_folder(each)), None)
    truth = read_annotations(given)
    if folder is None:
        raise UsageError(f"{folders[0]}: there is no such folder of videos")
    return truth, folder
