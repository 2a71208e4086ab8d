"""The split file: which captures are trained on, which choose the model, which are kept apart.

    {"format": "tsm-tal split 1",
     "subsets": {"training": ["a", "b", "c"], "validation": ["d"], "test": []},
     "offsets": {"binocular/a/clip1": 12.4, "binocular/a/clip2": null}}

With `"folds": [["a", "b"], ["c", "d"]]` in the place of `subsets`, `data.fold` says which fold validates, and
the others are trained on; `"test"` stands beside it. An offset is the second of the annotations' time line at
which a clip of the glasses begins; null: not known yet, so the clip is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tsm_runtime.captures.offsets import check_offsets
from tsm_runtime.errors import UsageError
from tsm_runtime.strict import convert, read_toml_or_json
from tsm_runtime.wording import counted

FORMAT = "tsm-tal split 1"
_NAMES = ("training", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A checked split.

    Args:
        where: the file, for messages.
        subsets: captures of `training`, `validation` and `test`; of folds as `fold` chooses them.
        folds: as in the file; empty for plain subsets.
        offsets: seconds by `<view>/<capture>/<clip>`; None where they are not known yet.
        about: how the split was made.

    Raises:
        UsageError: a capture is there twice, or a subset has none.
    """

    where: str
    subsets: Mapping[str, tuple[str, ...]]
    folds: tuple[tuple[str, ...], ...] = ()
    offsets: Mapping[str, float | None] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for name, captures in self.subsets.items():
            for capture in captures:
                if capture in seen:
                    twice = "twice in" if seen[capture] == name else f"in {seen[capture]} and in"
                    raise UsageError(f"{self.where}: capture {capture!r} is {twice} {name}")
                seen[capture] = name
        for name in ("training", "validation"):
            if not self.subsets.get(name):
                raise UsageError(f"{self.where}: no capture in {name}")

    def subset_of(self) -> dict[str, str]:
        """Return the subset of each capture."""
        return {capture: name for name, captures in self.subsets.items() for capture in captures}

    def check(self, seen: Iterable[str], known: Iterable[str]) -> None:
        """Check that the split is one of these captures.

        Args:
            seen: captures of which there is a video; each must be in a subset.
            known: all that are annotated; others may not be in a subset, nor have an offset.

        Raises:
            UsageError: it names an unknown one, lacks one, or has an offset of an unknown one.
        """
        there, named = set(known), set(self.subset_of())
        if unknown := sorted(named - there):
            raise UsageError(f"{self.where}: {_listed(unknown)} not in the data: remove, or correct the name")
        if missing := sorted(set(seen) - named):
            raise UsageError(
                f"{self.where}: {_listed(missing)} in the data, but in no subset;"
                ' put it into "training", "validation" or "test"'
            )
        for clip in self.offsets:
            parts = clip.split("/")
            if len(parts) != 3 or parts[1] not in there:
                raise UsageError(
                    f"{self.where}: offset of {clip!r}: no such clip; expected binocular/<capture>/<clip>"
                )


class _File(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    format: str
    about: dict[str, Any] = {}
    subsets: dict[str, list[str]] | None = None
    folds: list[list[str]] | None = None
    test: list[str] = []
    offsets: dict[str, float | None] = {}


def read_split(path: Path, fold: int = 0) -> Split:
    """Read a split file, JSON or TOML by its suffix.

    Args:
        path: the file.
        fold: which fold validates, where there are folds.

    Raises:
        UsageError: names file and entry.
    """
    file = _read_file(path)
    check_offsets(file.offsets, str(path))
    return Split(
        where=str(path),
        subsets=_subsets(file, fold, str(path)),
        folds=tuple(map(tuple, file.folds or ())),
        offsets=file.offsets,
        about=file.about,
    )


def encode_split(split: Split) -> bytes:
    """Return the text of a split file."""
    file = _File(
        format=FORMAT,
        about=dict(split.about),
        subsets=None if split.folds else {name: list(split.subsets.get(name, ())) for name in _NAMES},
        folds=[list(captures) for captures in split.folds] or None,
        test=list(split.subsets.get("test", ())) if split.folds else [],
        offsets=dict(split.offsets),
    )
    return msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n"


def _read_file(path: Path) -> _File:
    if not path.exists():
        raise UsageError(f"{path}: there is no such file; tsm-inspect --write-split {path} makes it")
    file = convert(read_toml_or_json(path), _File, str(path))
    if file.format != FORMAT:
        raise UsageError(f"{path}: format is {file.format!r}; this program reads {FORMAT!r}")
    return file


def _subsets(file: _File, fold: int, where: str) -> dict[str, tuple[str, ...]]:
    if (file.subsets is None) == (file.folds is None):
        raise UsageError(f'{where}: expected either "subsets" or "folds"')
    if file.subsets is not None:
        if unknown := sorted(file.subsets.keys() - set(_NAMES)):
            raise UsageError(f"{where}: unknown subset {unknown[0]!r}; known: {', '.join(_NAMES)}")
        if file.test:
            raise UsageError(f'{where}: "test" stands inside "subsets"')
        if fold:
            raise UsageError(f"data.fold = {fold}, but {where} has subsets and no folds")
        return {name: tuple(file.subsets.get(name, ())) for name in _NAMES}
    folds = file.folds or []
    if len(folds) < 2:
        raise UsageError(f"{where}: {counted(len(folds), 'fold')}; expected two or more")
    if fold >= len(folds):
        raise UsageError(f"data.fold = {fold}, but {where} has the folds 0 to {len(folds) - 1}")
    training = tuple(capture for n, captures in enumerate(folds) if n != fold for capture in captures)
    return {"training": training, "validation": tuple(folds[fold]), "test": tuple(file.test)}


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"capture{'s' if len(names) > 1 else ''} {shown}{more} {'are' if len(names) > 1 else 'is'}"
