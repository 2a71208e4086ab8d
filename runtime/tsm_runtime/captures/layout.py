"""Captures: recordings of one scene by several cameras, each a view; in the layout of 360+x or given singly.

panoramic/<uuid>.mp4           third_person/<uuid>.mp4
binocular/<uuid>/clip1.mp4     monocular/<uuid>/clip1.mp4
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.files import is_folder
from tsm_runtime.video.finding import EGOCENTRIC, VIEWS, default_id, is_video


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewVideo:
    """One video of a capture.

    Args:
        name: `<view>/<capture>`, or `<view>/<capture>/<clip>` for clips of glasses, as in split files.
    """

    name: str
    view: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """A recording and its videos, the panoramic one first.

    Args:
        offsets: offsets given with the videos.
        is_named: the videos were given one by one.

    Raises:
        UsageError: two videos have the same name.
    """

    capture_id: str
    videos: tuple[ViewVideo, ...]
    offsets: Mapping[str, float] = field(default_factory=dict)
    is_named: bool = False

    def __post_init__(self) -> None:
        by_name: dict[str, Path] = {}
        for video in self.videos:
            other = by_name.setdefault(video.name, video.path)
            if other is not video.path:
                raise UsageError(
                    f"{other} and {video.path} would both be {video.name}; a capture has one such video"
                )


# --- the layout of 360+x --------------------------------------------------------------------------


def videos_of_view(root: Path, view: str) -> Iterator[tuple[str, tuple[str, Path]]]:
    """Yield name, capture and path of each video of a view in a data set's folder, in order of name."""
    folder = root / view
    if not is_folder(folder):
        return
    for path in sorted(folder.iterdir()):
        if view not in EGOCENTRIC and is_video(path):
            yield f"{view}/{path.stem}", (path.stem, path)
        elif view in EGOCENTRIC and path.is_dir():
            for clip in filter(is_video, sorted(path.iterdir())):
                yield f"{view}/{path.name}/{clip.stem}", (path.name, clip)


def find_captures(paths: Sequence[Path]) -> list[Capture]:
    """Return captures of 360+x data sets.

    Args:
        paths: the folder of a data set, for all its captures; folder/id, which need not exist as a path, or
            any video of a capture, for one.

    Raises:
        UsageError: there is no such capture, or two have the same id.
    """
    found: dict[str, tuple[Path, Capture]] = {}
    for path in paths:
        root, requested = _root_and_id(path)
        captures = _captures_in(root)
        if requested is not None:
            known = requested in captures
            captures = {requested: captures[requested]} if known else _unknown(path, root, captures)
        for capture_id, videos in captures.items():
            other, _ = found.setdefault(
                capture_id, (root, Capture(capture_id=capture_id, videos=tuple(videos)))
            )
            if other.resolve() != root.resolve():
                raise UsageError(f"capture {capture_id!r} is in {other} and in {root}; run them separately")
    return [capture for _, capture in found.values()]


def _root_and_id(path: Path) -> tuple[Path, str | None]:
    """Return the folder of the data set and the id of a requested capture, or None for all captures."""
    if _is_root(path):
        return path, None
    parents = path.parents
    if len(parents) > 1 and parents[0].name in EGOCENTRIC and is_folder(path):
        return parents[1], path.name
    if len(parents) > 1 and parents[0].name in VIEWS and not is_folder(path):
        return parents[1], path.stem
    if len(parents) > 2 and parents[1].name in EGOCENTRIC:
        return parents[2], parents[0].name
    if _is_root(path.parent) and path.name not in VIEWS:
        return path.parent, path.name
    hint = f"; for all captures give {path.parent}" if path.name in VIEWS else ""
    raise UsageError(
        f"--capture {path}: neither a folder with {'/, '.join(VIEWS)}/ in it, nor such a folder"
        f" and the id of a capture{hint}"
    )


def _is_root(path: Path) -> bool:
    return any(is_folder(path / view) for view in VIEWS)


def _captures_in(root: Path) -> dict[str, list[ViewVideo]]:
    captures: dict[str, list[ViewVideo]] = {}
    for view in VIEWS:
        for name, (capture, path) in videos_of_view(root, view):
            captures.setdefault(capture, []).append(ViewVideo(name=name, view=view, path=path))
    return dict(sorted(captures.items()))


def _unknown(path: Path, root: Path, captures: Mapping[str, object]) -> dict[str, list[ViewVideo]]:
    near = difflib.get_close_matches(path.stem, captures, n=1)
    hint = f"; did you mean {near[0]}?" if near else f" among the {len(captures)} there"
    raise UsageError(f"--capture {path}: no such capture in {root}{hint}")


# --- files of one's own ---------------------------------------------------------------------------


def capture_of_views(given: Sequence[str], capture_id: str | None = None) -> Capture:
    """Return the capture of videos given as `VIEW=FILE` or `VIEW=FILE@OFFSET`.

    Args:
        given: one entry per video; glasses may have several clips. The offset is the second of the capture's
            time line at which the video begins.
        capture_id: id of the capture; default: the id of the panoramic file, else of the first file.

    Raises:
        UsageError: an entry is malformed, or a view has two files.
    """
    parsed = sorted(map(_parse_view, given), key=lambda each: each[0] != VIEWS[0])
    if capture_id is None:
        capture_id = default_id(parsed[0][1]).split("/")[0]
    videos, offsets = [], {}
    for view, path, offset in parsed:
        clip = f"/{path.stem}" if view in EGOCENTRIC else ""
        video = ViewVideo(name=f"{view}/{capture_id}{clip}", view=view, path=path)
        videos.append(video)
        if offset is not None:
            offsets[video.name] = offset
    return Capture(capture_id=capture_id, videos=tuple(videos), offsets=offsets, is_named=True)


def _parse_view(text: str) -> tuple[str, Path, float | None]:
    view, equals, file = text.partition("=")
    if not (view.strip() and equals and file):
        raise UsageError(f"--view {text}: expected VIEW=FILE or VIEW=FILE@SECONDS, as third_person=b.mp4@2.5")
    name, at, seconds = file.rpartition("@")
    if not at or Path(file).exists():
        return view, Path(file), None
    try:
        offset = float(seconds)
    except ValueError:
        return view, Path(file), None  # an @ of the file's own name
    if not math.isfinite(offset):
        raise UsageError(f"--view {text}: offset {seconds}; expected seconds")
    return view, Path(name), offset
