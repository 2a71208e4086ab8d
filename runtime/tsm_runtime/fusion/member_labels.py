"""Renaming of members' labels by a table, and the check that members use the same labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from tsm_runtime.errors import UsageError
from tsm_runtime.formats.result_file import ResultFile
from tsm_runtime.fusion.member_file import some
from tsm_runtime.strict import read_toml_or_json


@dataclass(frozen=True, slots=True)
class MemberLabels:
    """Labels of a member that has no file of segments, such as a bundle; `path` is for messages."""

    path: Path
    labels: set[str]
    scene_labels: set[str]


def read_labels(path: Path) -> dict[str, str]:
    """Read a table {"from": "to"} of labels, JSON or (by its suffix) TOML.

    Raises:
        UsageError: the file cannot be read or is not such a table.
    """
    content = read_toml_or_json(path)
    try:
        table = msgspec.convert(content, dict[str, str])
    except msgspec.ValidationError as error:
        raise UsageError(f'{path}: expected a table {{"from": "to"}} of labels: {error}') from error
    for source, label in table.items():
        if not label.strip():
            raise UsageError(f"{path}: {source!r} would become an empty label")
    return table


def rename_labels(member: ResultFile, table: Mapping[str, str]) -> ResultFile:
    """Return the member with the table's names for its actions and scenes."""
    if not table:
        return member
    return member.with_results(
        {
            video_id: replace(
                result,
                segments=tuple(replace(s, label=table.get(s.label, s.label)) for s in result.segments),
                scenes=tuple(replace(s, label=table.get(s.label, s.label)) for s in result.scenes),
            )
            for video_id, result in member.results.items()
        }
    )


def check_member_labels(
    members: Sequence[MemberLabels | ResultFile],
    meant: Iterable[str] = (),
    *,
    remedy: str = "map them with --labels TABLE",
) -> None:
    """Refuse members whose labels differ in spelling: when fused, they would never support each other.

    Args:
        members: members with their labels already renamed.
        meant: labels accepted as they are, even if they resemble others: those in the user's table.
        remedy: next step for error messages, put before the form of the table.

    Raises:
        UsageError: a label differs from another member's in case or spaces only, or a member has no label in
            common with all others.
    """
    known = set(meant)
    for kind in ("labels", "scene_labels"):
        sets: list[set[str]] = [getattr(member, kind) - known for member in members]
        full: list[set[str]] = [getattr(member, kind) for member in members]
        for number, member in enumerate(members):
            others = set().union(*(labels for i, labels in enumerate(full) if i != number))
            _check_spelling(member.path, sets[number], others, remedy)
            if sets[number] and others and not full[number] & others:
                raise UsageError(
                    f"{member.path}: none of its labels ({some(sets[number])}) is a label of another member"
                    f' ({some(others)})\n{remedy}, a JSON {{"from": "to"}} (a label to itself: keep it)'
                )


def _check_spelling(path: Path, labels: Iterable[str], others: set[str], remedy: str) -> None:
    folded = {_folded(label): label for label in sorted(others, reverse=True)}
    for label in sorted(labels):
        other = folded.get(_folded(label))
        if other is not None and label not in others:
            table = json.dumps({label: other}, ensure_ascii=False)
            raise UsageError(
                f"{path}: label {label!r} is {other!r} in another member; {remedy},"
                f" a JSON file such as {table}"
            )


def _folded(label: str) -> str:
    return "".join(label.casefold().replace("_", " ").replace("-", " ").split())
