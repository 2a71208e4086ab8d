"""Which videos of the user's data an export looks at: some to calibrate, others to validate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tsm_runtime.annotations import GroundTruth, VideoAnnotation, read_ground_truth
from tsm_runtime.errors import UsageError
from tsm_runtime.files import is_folder
from tsm_runtime.inputs import list_inputs
from tsm_train.config import DataConfig
from tsm_train.data.files import find_video

__all__ = ["Validation", "calibration_videos", "validation_videos"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Annotated videos with their files, and the name of the subset they are."""

    subset: str
    videos: tuple[tuple[VideoAnnotation, Path], ...]


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
        truth, folder = _annotated(data, given)
        names = {video.subset for video in truth.videos}
        chosen = (
            truth.subset(data.training_subset) if given is None or data.training_subset in names else truth
        )
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
    truth, folder = _annotated(data, given)
    subset = data.validation_subset
    if given is not None and subset not in {video.subset for video in truth.videos}:
        chosen, subset = truth, ""
    else:
        chosen = truth.subset(subset)
    if not chosen.action_labels:
        raise UsageError(f"{given or data.annotations}: no action is annotated in subset {subset!r}")
    videos = tuple((video, find_video(folder, video.video_id)) for video in chosen.videos)
    return Validation(subset=subset, videos=videos)


def _is_annotations(path: Path) -> bool:
    return path.suffix.lower() in (".json", ".gz")


def _videos_of(path: Path) -> list[Path]:
    if not path.exists():
        raise UsageError(f"--calibrate {path}: there is no such file or folder")
    inputs, problems = list_inputs([path])
    if problems:
        raise UsageError(f"--calibrate {problems[0]}")
    return [video.path for video in inputs]


def _annotated(data: DataConfig, given: Path | None) -> tuple[GroundTruth, Path]:
    """Return annotations and the folder of their videos."""
    path = given or Path(data.annotations)
    folders = [path.parent / "videos", path.parent] if given else [Path(data.videos)]
    if given is not None and data.videos:
        folders.append(Path(data.videos))
    folder = next((each for each in folders if is_folder(each)), None)
    truth = read_ground_truth(path)
    if folder is None:
        raise UsageError(f"{folders[0]}: there is no such folder of videos")
    return truth, folder
