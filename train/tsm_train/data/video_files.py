"""Finds the file of an annotated video in a folder."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.files import is_folder
from tsm_runtime.video.finding import AUDIO_SUFFIXES, is_media

_FIRST = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".mpg", ".ts", ".wmv", ".3gp")
"""Which of several files of one name is taken; recordings of sound alone come last."""

_SHOWN = 3


def find_video(folder: Path, video_id: str) -> Path:
    """Return the video of an id, which is a file's name without or with its suffix.

    Names are equal if they differ in Unicode's composition only (as where macOS wrote one of them); a name
    that differs in case is taken if there is one such file.

    Raises:
        UsageError: there is no such file, or several that differ in case; names near matches.
    """
    inside = (folder / video_id).parent
    changed = inside.stat().st_mtime_ns if is_folder(inside) else 0
    exact, by_case = _index(inside, changed)
    name = _composed(Path(video_id).name)
    if name in exact:
        return exact[name][0]
    alike = by_case.get(name.casefold(), [])
    if len({path.stem for path in alike}) == 1:
        return alike[0]
    near = f"; near: {', '.join(path.name for path in alike[:_SHOWN])}" if alike else ""
    raise UsageError(
        f"{folder / video_id}.*: annotated, but there is no such video ({', '.join(_FIRST)} ...){near}"
    )


_Names = dict[str, list[Path]]


@lru_cache(maxsize=64)
def _index(folder: Path, changed_ns: int) -> tuple[_Names, _Names]:
    """Return a folder's videos by name with and without suffix, as it is and in lower case, best first.

    Args:
        folder: which may be missing.
        changed_ns: its time of change, which makes an older index void.
    """
    exact: _Names = {}
    by_case: _Names = {}
    videos = [path for path in folder.iterdir() if is_media(path)] if is_folder(folder) else []
    for path in sorted(videos, key=_rank):
        for name in (_composed(path.stem), _composed(path.name)):
            exact.setdefault(name, []).append(path)
            by_case.setdefault(name.casefold(), []).append(path)
    return exact, by_case


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _rank(path: Path) -> tuple[int, str]:
    suffix = path.suffix.lower()
    last = len(_FIRST) + (suffix in AUDIO_SUFFIXES)
    return (_FIRST.index(suffix) if suffix in _FIRST else last, path.name)
