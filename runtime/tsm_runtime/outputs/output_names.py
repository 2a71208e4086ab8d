"""Names and formats of outputs, checked before the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.files import is_folder, temporary_sibling, writing
from tsm_runtime.formats.kaggle import ACTION_IDS, check_class_ids, read_label_map
from tsm_runtime.formats.names import PER_VIDEO, SUFFIXES, Format, known_format_of
from tsm_runtime.results import BACKGROUND
from tsm_runtime.video.finding import VideoInput


def choose_format(output: str | None, format_: Format | None) -> Format:
    """Return the requested format, else the one of the output's suffix, else JSON.

    Raises:
        UsageError: the suffix belongs to no format.
    """
    if format_ is not None:
        return format_
    if output is None or output == "-" or means_folder(output):
        return "json"
    return known_format_of(output) or "json"


def label_ids_for(
    format_: Format, label_map: Path | None, action_labels: Sequence[str]
) -> Mapping[str, int | None]:
    """Return the class ids that the Kaggle format needs, checked before the run.

    Args:
        format_: the chosen format.
        label_map: file of `--label-map`, or None.
        action_labels: all labels that the model may find.

    Raises:
        UsageError: the label map is for another format, is wrong, or lacks a label.
    """
    if format_ != "kaggle":
        if label_map is not None:
            raise UsageError(f"--label-map is for --format kaggle only, not {format_}")
        return ACTION_IDS
    ids = ACTION_IDS if label_map is None else read_label_map(label_map)
    check_class_ids([label for label in action_labels if label != BACKGROUND], ids)
    return ids


def check_output(output: str | None, inputs: Sequence[VideoInput], format_: Format | None = None) -> None:
    """Check `--output` and `--format` before the run.

    Raises:
        UsageError: the output is empty, its folder does not exist, it is one of the videos, or it is one file
            for several videos in a format that holds one.
    """
    if output == "":
        raise UsageError("--output is empty; give a file, a folder, or - for standard output")
    path = Path(output or "-")
    if any(path.resolve() == video.path.resolve() for video in inputs):
        raise UsageError(f"--output {output}: would replace the video; choose another name")
    _check_one_file(output, len(inputs), choose_format(output, format_))
    if output is None or output == "-":
        return
    if not means_folder(output) and not is_folder(path.parent):
        raise UsageError(f"--output {output}: there is no folder {path.parent}")


def check_second_output(
    flag: str, path: Path, suffixes: Sequence[str], inputs: Sequence[VideoInput], output: str | None
) -> None:
    """Check the name of a file that is written besides `--output`, before the run.

    Raises:
        UsageError: another suffix, no such folder, or the name of a video or of `--output`.
    """
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{flag} {path}: expected a name that ends in {', '.join(suffixes)}")
    if is_folder(path) or not is_folder(path.parent):
        raise UsageError(f"{flag} {path}: is a folder, or there is no folder {path.parent}")
    taken = [video.path for video in inputs] + ([] if output in (None, "-", "") else [Path(str(output))])
    if any(path.resolve() == other.resolve() for other in taken):
        raise UsageError(f"{flag} {path}: would replace the video or --output; choose another name")


def _check_one_file(output: str | None, num_videos: int, format_: Format) -> None:
    in_folder = output is not None and output != "-" and means_folder(output)
    if format_ in PER_VIDEO and num_videos > 1 and not in_folder:
        raise UsageError(
            f"a file of format {format_} holds one video, but {num_videos} were given;"
            " choose a folder: --output FOLDER/"
        )


def result_path(folder: Path, video_id: str, format_: Format) -> Path:
    """Return the file of a video's result in an output folder.

    Raises:
        UsageError: the file would lie outside of the folder.
    """
    path = folder / f"{video_id}{SUFFIXES[format_]}"
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"video id {video_id!r} would be written outside {folder}")
    return path


def check_writable(output: str | None) -> None:
    """Check before the run that `--output` can be opened for writing; its content does not change.

    Raises:
        RunError: the output cannot be written.
    """
    if output is None or output == "-":
        return
    path = Path(output)
    with writing(output):
        if means_folder(output):
            path.mkdir(parents=True, exist_ok=True)
        elif path.exists():
            with path.open("ab"):
                return
        trial = temporary_sibling(path / "trial" if means_folder(output) else path)
        trial.touch()
        trial.unlink()


def means_folder(output: str) -> bool:
    """Return whether an output is a folder: one that exists, or a name that ends with /."""
    return output.endswith("/") or is_folder(Path(output))
