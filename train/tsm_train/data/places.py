"""Where a data set's files are: `root` looked into, the format found out."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.files import is_folder
from tsm_runtime.formats.annotations import annotation_format
from tsm_runtime.video.finding import VIEWS
from tsm_train.sections.data import DataConfig

TAL_FOLDER = "TAL_annotations"

_ANNOTATIONS = ("ground_truth.json", "annotations.csv", "via.json", "via")


def resolve_places(data: DataConfig) -> DataConfig:
    """Return the section with its format set, and for other data than 360+x its annotations and videos.

    Raises:
        UsageError: `root` holds no known layout, or the annotations cannot be read.
    """
    if data.format == "x360" or (data.root and data.format == "auto" and _is_x360(Path(data.root))):
        _check_x360(Path(data.root))
        return msgspec.structs.replace(data, format="x360")
    if data.root and not data.annotations:
        data = _look_into(data)
    if data.format == "auto":
        data = msgspec.structs.replace(data, format=annotation_format(Path(data.annotations)))
    if not is_folder(Path(data.videos)):
        raise UsageError(f"{data.videos}: there is no such folder of videos")
    return data


def _is_x360(root: Path) -> bool:
    return is_folder(root / TAL_FOLDER) or any(is_folder(root / view) for view in VIEWS)


def _check_x360(root: Path) -> None:
    if is_folder(root / TAL_FOLDER):
        return
    if not is_folder(root):
        raise UsageError(f"{root}: there is no such folder")
    inside = next((path for path in sorted(root.iterdir()) if is_folder(path / TAL_FOLDER)), None)
    hint = f"is it {inside}?" if inside else "download the data set's annotations into it"
    raise UsageError(f"{root}: no {TAL_FOLDER}/ in this folder; {hint}")


def _look_into(data: DataConfig) -> DataConfig:
    root = Path(data.root)
    found = next((root / name for name in _ANNOTATIONS if (root / name).exists()), None)
    if found is None and not is_folder(root):
        what = "is a file, not a folder" if root.exists() else "there is no such folder"
        raise UsageError(
            f"{root}: {what}; data.root is a folder in a known layout, else give data.annotations and"
            " data.videos"
        )
    if found is None:
        inside = [path for path in sorted(root.iterdir()) if is_folder(path)]
        below = next((path for path in inside if _is_x360(path)), None)
        hint = f"; is it {below}?" if below else ""
        raise UsageError(
            f"{root}: neither 360+x ({TAL_FOLDER}/, panoramic/) nor one of {', '.join(_ANNOTATIONS)}{hint}"
        )
    scenes = root / "scenes.csv"
    return msgspec.structs.replace(
        data,
        annotations=str(found),
        videos=str(root / "videos" if is_folder(root / "videos") else root),
        scenes=data.scenes or (str(scenes) if scenes.is_file() else ""),
    )
