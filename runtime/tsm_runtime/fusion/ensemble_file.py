"""ensemble.toml: members of an ensemble and how they are fused; strict, as all files a user edits."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Self

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.candidates import Denominator
from tsm_runtime.fusion.options import FusionOptions, Method
from tsm_runtime.strict import read_toml, strict


class EnsembleMember(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One member; paths are relative to the file's folder."""

    segments: str = ""
    """File of its segments, for `tsm-fuse`."""
    bundle: str = ""
    """Bundle folder, needed to run the member; empty: only its segments are known."""
    bundle_sha256: str = ""
    """Hash of the manifest of the bundle that made the segments, if their file records it."""
    view: str = ""
    """Views of a capture that the member sees, such as `third_person`, separated by commas; empty: the views
    recorded in its bundle or in the file of its segments."""
    offset_seconds: float | None = None
    """Start of its videos on the capture's time line, unless a file of offsets gives it."""
    weight: float = 1.0
    temperature: float = 1.0
    """Scores p become sigmoid(logit(p) / temperature) before they are fused."""


class FusionKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fusion options of a file; the keys are those of `fusion.FusionOptions`."""

    method: Method = "paper"
    iou: float = 0.5
    denominator: Denominator = "all"
    min_score: float = 0.0
    sigma: float = 0.5

    @property
    def options(self) -> FusionOptions:
        """Return the fusion options.

        Raises:
            UsageError: a value is out of range.
        """
        return FusionOptions(**{name: getattr(self, name) for name in FusionKeys.__struct_fields__})


class Ensemble(FusionKeys, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of an ensemble file."""

    members: tuple[EnsembleMember, ...]

    @classmethod
    def of(cls, options: FusionOptions, members: Iterable[EnsembleMember]) -> Self:
        """Return an ensemble of members that are fused with these options."""
        return cls(**asdict(options), members=tuple(members))

    @property
    def weights(self) -> tuple[float, ...]:
        """Return the weight of each member."""
        return tuple(member.weight for member in self.members)


def read_ensemble(path: Path) -> Ensemble:
    """Read and check an ensemble; paths in it become relative to the current folder, or absolute.

    Raises:
        UsageError: not TOML, an unknown key (the nearest known one is named), or a value out of range.
    """
    ensemble = strict(read_toml(path), Ensemble, str(path))
    try:
        _ = ensemble.options
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    _check_members(ensemble, path)
    members = tuple(
        msgspec.structs.replace(
            member,
            segments=str(path.parent / member.segments) if member.segments else "",
            bundle=str(path.parent / member.bundle) if member.bundle else "",
        )
        for member in ensemble.members
    )
    return msgspec.structs.replace(ensemble, members=members)


def _check_members(ensemble: Ensemble, path: Path) -> None:
    if not ensemble.members:
        raise UsageError(f"{path}: no [[members]]; give each member a table with segments, bundle or both")
    for number, member in enumerate(ensemble.members, start=1):
        if not (member.segments or member.bundle):
            raise UsageError(f"{path}: member {number} has neither segments nor bundle")
        for name in ("weight", "temperature"):
            value: float = getattr(member, name)
            if not 0 < value < math.inf:
                raise UsageError(f"{path}: member {number}: {name} {value:g}; expected a number above 0")
        if not math.isfinite(member.offset_seconds or 0.0):
            raise UsageError(
                f"{path}: member {number}: offset_seconds {member.offset_seconds:g}; expected seconds"
            )


def ensemble_to_toml(ensemble: Ensemble, folder: Path, *, comments: tuple[str, ...] = ()) -> str:
    """TOML text of an ensemble for a file in `folder`: relative paths are made relative to it.

    Args:
        ensemble: with paths relative to the current folder, or absolute.
        folder: folder of the file.
        comments: comment lines at the top.

    Raises:
        UsageError: a path is not text.
    """
    lines = [f"# {comment}".rstrip() for comment in comments]
    lines += [f"{key} = {_value(getattr(ensemble, key))}" for key in Ensemble.__struct_fields__[:-1]]
    defaults = EnsembleMember()
    for member in ensemble.members:
        lines += ["", "[[members]]"]
        for key in EnsembleMember.__struct_fields__:
            value = getattr(member, key)
            if key in ("segments", "bundle"):
                value = _relative(value, folder)
            if key == "weight" or value != getattr(defaults, key):
                lines.append(f"{key} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _relative(path: str, folder: Path) -> str:
    if not path or Path(path).is_absolute():
        return path
    return Path(os.path.relpath(path, folder)).as_posix()


def _value(value: object) -> str:
    if isinstance(value, str):
        if not value.isprintable():
            raise UsageError(f"{value!r}: cannot be written into TOML; rename it")
        return json.dumps(value, ensure_ascii=False)
    return repr(value)
