"""Which videos a command runs on, under which names, and with which model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tsm_runtime.errors import UsageError, VideoError

__all__ = ["VIDEO_SUFFIXES", "VideoInput", "demo_folder", "find_bundle", "list_inputs"]

VIDEO_SUFFIXES = frozenset(
    ".3gp .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv".split()
)
"""What counts as a video inside a folder; a file named on the command line may have any suffix."""

_CLIP_FOLDERS = frozenset({"binocular", "monocular"})


@dataclass(frozen=True, slots=True)
class VideoInput:
    """A video and its name in the output."""

    path: Path
    video_id: str


def list_inputs(paths: Sequence[Path], video_id: str | None = None) -> list[VideoInput]:
    """Return the videos to run on, folders replaced by the videos in them (at any depth, in order of name).

    Args:
        paths: files and folders.
        video_id: name of the video, if there is just one.

    Raises:
        VideoError: a folder without videos.
        UsageError: two videos with the same id, or an id for several videos.
    """
    videos = [video for path in paths for video in (_videos_in(path) if path.is_dir() else [path])]
    if video_id is not None:
        if len(videos) != 1:
            raise UsageError(f"--id names one video, but {len(videos)} were given")
        return [VideoInput(videos[0], video_id)]
    inputs = [VideoInput(path, _default_id(path)) for path in dict.fromkeys(videos)]
    by_id: dict[str, Path] = {}
    for video in inputs:
        other = by_id.setdefault(video.video_id, video.path)
        if other != video.path:
            raise UsageError(
                f"{other} and {video.path} would both be {video.video_id!r} in the output;"
                " run them separately, with --id for one"
            )
    return inputs


def _videos_in(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
    if not found:
        raise VideoError(f"{folder}: no video in this folder (looked for {' '.join(sorted(VIDEO_SUFFIXES))})")
    return found


def _default_id(path: Path) -> str:
    """The file's stem; clips of the egocentric 360+x views are `<uuid>/clip1`."""
    parents = path.absolute().parents
    if len(parents) > 1 and parents[1].name in _CLIP_FOLDERS:
        return f"{parents[0].name}/{path.stem}"
    return path.stem


def demo_folder() -> Path:
    """Return the folder of the embedded demo: bundle/, video.mp4 and ground_truth.json."""
    return Path(str(files("tsm_runtime"))) / "demo"


def find_bundle(given: Path | None) -> tuple[Path, str | None]:
    """Return the bundle to use and, where it is the embedded demo model, a line that says so.

    The order is: the given one, $TSM_MODEL, ./bundle, the demo model.
    """
    if given is not None:
        return given, None
    if named := os.environ.get("TSM_MODEL"):
        return Path(named), None
    if Path("bundle").is_dir():
        return Path("bundle"), None
    return demo_folder() / "bundle", (
        "no model given: using the embedded demo model, which knows drawn figures only (--model BUNDLE for yours)"
    )
