"""Offsets of all videos of a capture on one time line: of the panoramic video, else of the first view's."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tsm_runtime.captures.matching.match import CERTAIN, Placement, Recording, match
from tsm_runtime.errors import UsageError
from tsm_runtime.files import is_folder
from tsm_runtime.video.finding import VIEWS, is_video


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Videos of one capture; the first is the reference, whose time line the offsets are on."""

    capture_id: str
    videos: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundOffset:
    """Offset of a video.

    Args:
        path: of the video.
        offset_seconds: on the reference's time line; None: not found.
        drift: by how much the reference's clock runs faster than the video's.
        confidence: 0 to 1.
        note: what was compared, or why there is no offset.
        is_readable: whether it has sound or pictures.
    """

    path: Path
    offset_seconds: float | None
    drift: float = 0.0
    confidence: float = 0.0
    note: str = ""
    is_readable: bool = True


# --- which videos belong together -----------------------------------------------------------------


def find_groups(path: Path) -> tuple[Path, list[Group]]:
    """Return the folder that holds the views, and the captures in it.

    Args:
        path: a folder with a folder for each view (of 360+x: several captures, identified by their id), a
            folder of videos, each of another camera, or folder/id for one capture of 360+x.

    Raises:
        UsageError: there are no two videos of one capture.
    """
    root, wanted = (path, "") if is_folder(path) else (path.parent, path.stem)
    videos = sorted(_videos_below(root), key=lambda video: _order(video.relative_to(root)))
    if not videos:
        raise UsageError(f"{path}: no videos; expected a folder with a folder for each view")
    groups = _groups(root, videos)
    if wanted:
        groups = [group for group in groups if group.capture_id == wanted]
    if not groups:
        raise UsageError(f"{path}: no such capture in {root}")
    return root, groups


def _videos_below(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if is_video(path) and path.is_file():
            yield path


def _order(relative: Path) -> tuple[int, tuple[str, ...]]:
    view = relative.parts[0]
    return (VIEWS.index(view) if view in VIEWS else len(VIEWS)), relative.parts


def _groups(root: Path, videos: Sequence[Path]) -> list[Group]:
    first_view = [video for video in videos if _view(root, video) == _view(root, videos[0])]
    is_flat = videos[0].parent == root
    if is_flat or len(first_view) == 1:
        return [Group(capture_id=root.resolve().name, videos=tuple(videos))]
    by_id: dict[str, list[Path]] = {}
    for video in videos:
        by_id.setdefault(_capture_id(root, video), []).append(video)
    return [Group(capture_id=name, videos=tuple(members)) for name, members in sorted(by_id.items())]


def _view(root: Path, video: Path) -> str:
    return video.relative_to(root).parts[0]


def _capture_id(root: Path, video: Path) -> str:
    parts = video.relative_to(root).parts
    return parts[1] if len(parts) > 2 else video.stem


# --- offsets --------------------------------------------------------------------------------------


def find_offsets(group: Group, *, track: str = "") -> tuple[list[FoundOffset], list[str]]:
    """Return the offset of each video, in the group's order, and warnings.

    A video that does not fit the reference is compared with the videos that do.

    Args:
        group: the videos of one capture.
        track: audio track of all videos, see `tsm_runtime.audio.track.choose_track`.
    """
    recordings = {path: Recording(path, track) for path in group.videos}
    reference = group.videos[0]
    placed = {reference: Placement(offset_seconds=0.0, drift=0.0, confidence=1.0, overlap_seconds=0.0, by="")}
    best: dict[Path, Placement] = {}
    open_pairs = [(reference, path) for path in group.videos[1:]]
    while open_pairs:
        anchor, path = open_pairs.pop(0)
        if path in placed:
            continue
        found = match(recordings[anchor], recordings[path])
        if found is None:
            continue
        found = _through(placed[anchor], found)
        if found.is_certain:
            placed[path] = found
            open_pairs += [(path, other) for other in group.videos if other not in placed]
        elif path not in best or found.confidence > best[path].confidence:
            best[path] = found
    warnings = [f"{path}: {line}" for path, each in recordings.items() for line in each.warnings]
    return [_answer(path, placed, best, reference, recordings[path]) for path in group.videos], warnings


def _through(anchor: Placement, found: Placement) -> Placement:
    """Put a place on an anchor's time line on that of the reference."""
    return replace(
        found,
        offset_seconds=anchor.offset_seconds + (1 + anchor.drift) * found.offset_seconds,
        drift=(1 + anchor.drift) * (1 + found.drift) - 1,
        confidence=min(anchor.confidence, found.confidence),
    )


def _answer(
    path: Path,
    placed: dict[Path, Placement],
    best: dict[Path, Placement],
    reference: Path,
    recording: Recording,
) -> FoundOffset:
    if path == reference:
        return FoundOffset(
            path=path,
            offset_seconds=0.0,
            confidence=1.0,
            note="reference",
            is_readable=recording.is_readable,
        )
    if path in placed:
        place = placed[path]
        return FoundOffset(
            path=path,
            offset_seconds=round(place.offset_seconds, 4),
            drift=place.drift,
            confidence=round(place.confidence, 4),
            note=f"by {place.by}, {place.overlap_seconds:.0f} s in common",
        )
    if path not in best:
        return FoundOffset(
            path=path,
            offset_seconds=None,
            note=_nothing_to_compare(recording),
            is_readable=recording.is_readable,
        )
    return FoundOffset(
        path=path,
        offset_seconds=None,
        confidence=round(min(best[path].confidence, CERTAIN), 4),
        note="not found: the recordings show nothing in common",
    )


def _nothing_to_compare(recording: Recording) -> str:
    if not recording.is_readable:
        return "not found: neither sound nor pictures to compare"
    return "not found: sound in one video, none in the other, or less than 3 s to compare"


def offsets_to_csv(root: Path, found: Sequence[FoundOffset]) -> str:
    """Return the CSV `video,offset_seconds` that training and `tsm-run --offsets` read; empty: not found."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("video", "offset_seconds"))
    for each in found:
        name = each.path.relative_to(root).with_suffix("").as_posix()
        writer.writerow((name, "" if each.offset_seconds is None else f"{each.offset_seconds:.4f}"))
    return text.getvalue()
