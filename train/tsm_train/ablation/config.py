"""The one TOML file of an ablation: a run's sections, members that change some keys, and how to fuse them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.ensemble_file import FusionKeys
from tsm_runtime.strict import read_toml, refuse_unknown, strict
from tsm_runtime.wording import counted
from tsm_train.config import Config, FolderName, config_of
from tsm_train.presets import preset_path

RESERVED_NAMES = (
    *("ensemble-validation", "ensemble-equal", "ensemble-given", "ensemble-fitted"),
    "ground_truth",
)
"""Rows and files that no member may be called like; nor as `MEMBER + OPTION`."""

_BASE_SECTIONS = ("data", "model", "clip", "segments", "train", "augment", "store")
_MEMBER_SECTIONS = tuple(name for name in _BASE_SECTIONS if name != "data")
_KEYS = ("name", "preset", "member", "ensemble", "post_processing", "clips_per_second", *_BASE_SECTIONS)

_NotNegative = Annotated[float, msgspec.Meta(ge=0)]
_AtLeastOne = Annotated[float, msgspec.Meta(ge=1)]
_Count = Annotated[int, msgspec.Meta(ge=1)]


class EnsembleConfig(FusionKeys, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How members are fused; the options are those of `tsm-fuse`. Equal weights are always a row too."""

    members: tuple[str, ...] = ()
    """Empty: all."""
    weights: Literal["validation", "equal"] | tuple[float, ...] = "validation"
    """`validation`: each member's mAP on the validation videos; or one number for each member."""
    fitted: bool = True
    """Also a row whose weights, threshold and minimum score are searched on the validation videos, as
    `tsm-fuse --fit` does."""


class PostProcessingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings after the scores to be tried; what does nothing is always among them."""

    members: tuple[str, ...] = ()
    """Empty: the one that is best on the validation videos."""
    smoothing_seconds: tuple[_NotNegative, ...] = (0.6, 1.0, 1.5, 2.0)
    min_duration_seconds: tuple[_NotNegative, ...] = (0.6, 1.0, 1.5)
    strides: tuple[_Count, ...] = (2,)
    """Strides as parts of the interval: 2 is half of it."""
    windows: tuple[_AtLeastOne, ...] = (1.5, 2.0)
    """Windows in intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """What is to be trained and compared.

    Args:
        name: of its folder.
        path: the file.
        members: a run each, by name, in the order of the table's rows; all learn from the same data.
        ensemble: None: no rows of ensembles.
        post_processing: None: no rows of settings after the scores.
        clips_per_second: of training by backbone, where it was measured; only for estimates.
    """

    name: str
    path: Path
    members: Mapping[str, Config]
    ensemble: EnsembleConfig | None = None
    post_processing: PostProcessingConfig | None = None
    clips_per_second: Mapping[str, float]

    @property
    def fused_names(self) -> tuple[str, ...]:
        """Members of the ensemble."""
        return (self.ensemble.members if self.ensemble else ()) or tuple(self.members)

    def check_member(self, name: str, where: str) -> None:
        """Refuse a name that no member has.

        Raises:
            UsageError: `where` begins the message.
        """
        if name not in self.members:
            near = difflib.get_close_matches(name, self.members, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.members)}"
            raise UsageError(f"{where}: no member {name!r}; {hint}")


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    name: FolderName
    preset: str = ""
    clips_per_second: dict[str, Annotated[float, msgspec.Meta(gt=0)]] = {}


def load_ablation(path: Path, root: Path | None = None) -> Ablation:
    """Read an ablation's TOML file.

    Sections as those of a run's file, or a shipped configuration that `preset` names and the sections change,
    are the base; each `[[member]]` has a name and the keys that it changes, as `model.backbone = "resnet50"`.

    Args:
        path: the file.
        root: where relative paths in the file start; None: at its folder.

    Raises:
        UsageError: unreadable, not TOML, unknown, missing or repeated key or name, value out of range.
    """
    raw, where = read_toml(path), str(path)
    refuse_unknown(raw, _KEYS, where)
    for key in ("ensemble", "post_processing", *_BASE_SECTIONS):
        if not isinstance(raw.get(key, {}), Mapping):
            raise UsageError(f"{where}: {key} = {raw[key]!r}: expected a section, [{key}]")
    head = strict(
        {key: raw[key] for key in ("name", "preset", "clips_per_second") if key in raw}, _Head, where
    )
    base = _base(raw, head.preset, root, where)
    folder = path.parent if root is None else root
    ablation = Ablation(
        name=head.name,
        path=path,
        members=_members(raw.get("member", []), base, where, folder),
        ensemble=strict(raw["ensemble"], EnsembleConfig, f"{where} [ensemble]")
        if "ensemble" in raw
        else None,
        post_processing=strict(raw["post_processing"], PostProcessingConfig, f"{where} [post_processing]")
        if "post_processing" in raw
        else None,
        clips_per_second=head.clips_per_second,
    )
    _check_ensemble(ablation)
    if ablation.post_processing is not None:
        _check_names(ablation, ablation.post_processing.members, f"{where} [post_processing]")
    return ablation


def _base(raw: Mapping[str, Any], preset: str, root: Path | None, where: str) -> dict[str, Any]:
    base: dict[str, Any] = {}
    if preset:
        base = read_toml(preset_path(preset))
        if "data" not in raw and root is None:
            raise UsageError(f"{where}: preset {preset!r} without [data] needs --data, the data set's folder")
        if "data" in raw:
            del base["data"]  # its places are not those of another data set
    return _changed(base, {key: raw[key] for key in _BASE_SECTIONS if key in raw})


def _members(raw: object, base: Mapping[str, Any], where: str, root: Path) -> dict[str, Config]:
    if not isinstance(raw, list) or not all(isinstance(entry, Mapping) for entry in raw):
        raise UsageError(f"{where}: member: expected tables, [[member]]")
    if not raw:
        raise UsageError(f"{where}: no [[member]]; give each row of the table one, with a name")
    members: dict[str, Config] = {}
    for number, entry in enumerate(raw, start=1):
        name = entry.get("name")
        place = f"{where}: member {name!r}" if isinstance(name, str) else f"{where}: member {number}"
        if "data" in entry:
            raise UsageError(f"{place}: data is the same for all members; set it in [data]")
        refuse_unknown(entry, ("name", *_MEMBER_SECTIONS), place)
        if "name" not in entry:
            raise UsageError(f"{place}: no name")
        if name in members or name in RESERVED_NAMES or " + " in str(name):
            raise UsageError(f"{place}: this name is taken; choose another")
        for key in _MEMBER_SECTIONS:
            if not isinstance(entry.get(key, {}), Mapping):
                raise UsageError(f"{place}: {key} = {entry[key]!r}: expected keys, as in {key}.x = ...")
        members[str(name)] = config_of(_changed(base, entry), place, root)
    return members


def _changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return sections with some keys replaced."""
    changed = deepcopy(dict(base))
    for key, value in changes.items():
        changed[key] = {**changed.get(key, {}), **value} if isinstance(value, Mapping) else value
    return changed


def _check_names(ablation: Ablation, names: Sequence[str], where: str) -> None:
    for name in names:
        ablation.check_member(name, f"{where}: members")
        if names.count(name) > 1:
            raise UsageError(f"{where}: members names {name!r} twice")


def _check_ensemble(ablation: Ablation) -> None:
    ensemble, where = ablation.ensemble, f"{ablation.path} [ensemble]"
    if ensemble is None:
        return
    _check_names(ablation, ensemble.members, where)
    names = ablation.fused_names
    if len(names) < 2:
        raise UsageError(f"{where}: {len(names)} member; an ensemble takes two or more")
    try:
        _ = ensemble.options
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    weights = ensemble.weights
    if not isinstance(weights, str):
        if len(weights) != len(names):
            raise UsageError(
                f"{where}: {counted(len(weights), 'weight')} for {counted(len(names), 'member')}"
                f" ({', '.join(names)})"
            )
        if least := [weight for weight in weights if not 0 < weight < float("inf")]:
            raise UsageError(f"{where}: weight {least[0]:g}: expected a number above 0")
