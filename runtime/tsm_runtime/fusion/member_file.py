"""Files of segments as members of an ensemble."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tsm_runtime._version import __version__
from tsm_runtime.errors import UsageError
from tsm_runtime.formats.kaggle import ACTION_IDS
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.formats.read_write import read_results
from tsm_runtime.formats.result_file import ResultFile
from tsm_runtime.fusion.fuse import fuse_members
from tsm_runtime.fusion.options import FusionOptions
from tsm_runtime.results import Result
from tsm_runtime.wording import counted

_SHOWN = 5
_TABLES = (".csv", ".tsv", ".txt")


def read_member(
    path: Path,
    label_ids: Mapping[str, int | None] = ACTION_IDS,
    options: ReadOptions | None = None,
) -> ResultFile:
    """Read a file of segments in any format that `read_results` supports.

    Args:
        path: the file.
        label_ids: class id by label, for Kaggle's format.
        options: for files of other tools; its `columns` are those of tables (.csv, .tsv, .txt) only, since
            other members may have other formats.

    Raises:
        UsageError: the file cannot be read, has no video, or a segment or scene that cannot be fused.
    """
    if options is not None and path.suffix.lower() not in _TABLES:
        options = replace(options, columns="")
    member = read_results(path, label_ids=label_ids, options=options)
    if not member.results:
        raise UsageError(f"{path}: holds no video; leave this member out")
    for video_id, result in member.results.items():
        for segment in result.segments:
            if segment.score < 0:
                raise UsageError(
                    f"{path}: video {video_id!r}: {segment.label!r} has the score {segment.score:g}; fusion"
                    " takes confidences of 0 or more (of logits, write their sigmoid)"
                )
    return member


def check_members(members: Sequence[ResultFile]) -> list[str]:
    """Check that there is something to fuse.

    Returns:
        Warnings, one line each.

    Raises:
        UsageError: fewer than two members, the same file twice, or no video that two members have.
    """
    if len(members) < 2:
        raise UsageError(f"{len(members)} member given; fusion takes two or more files of segments")
    for number, member in enumerate(members):
        if any(member.path.resolve() == other.path.resolve() for other in members[:number]):
            raise UsageError(
                f"{member.path} is given twice; to let it count for more, give it a higher weight (--weights)"
            )
    counts: dict[str, int] = {}
    for member in members:
        for video_id in member.results:
            counts[video_id] = counts.get(video_id, 0) + 1
    if max(counts.values()) < 2:
        shown = "; ".join(f"{m.path} has {some(m.results)}" for m in members)
        raise UsageError(f"no video is in two members, so there is nothing to fuse: {shown}\nspell ids alike")
    partly = sorted(video_id for video_id, count in counts.items() if count < len(members))
    warnings = []
    if partly:
        warnings.append(
            f"{len(partly)} of {len(counts)} videos are not in all members ({some(partly)}): those that"
            " lack one are left out of its denominator"
        )
    warnings += [
        f"{m.path}: not one segment in {counted(len(m.results), 'video')}" for m in members if not m.labels
    ]
    return warnings


def some(names: Iterable[str]) -> str:
    """Return the first few names in their order, for a message."""
    listed = sorted(names)
    shown = ", ".join(repr(name) for name in listed[:_SHOWN])
    return f"{shown}, ... {len(listed)} in all" if len(listed) > _SHOWN else shown or "none"


def fuse_files(
    members: Sequence[ResultFile],
    weights: Sequence[float] | None,
    options: FusionOptions,
    temperatures: Sequence[float] | None = None,
) -> list[Result]:
    """Fuse every video that any member has, in order of their ids; arguments are those of `fuse_members`.

    A video that a CSV does not list counts as one that its member has not seen: a CSV cannot distinguish it
    from a video without segments.

    Raises:
        UsageError: the weights do not fit, or a score to be calibrated is no probability.
    """
    return [
        fuse_members([member.results.get(video_id) for member in members], weights, temperatures, options)
        for video_id in sorted(set().union(*(member.results for member in members)))
    ]


def describe_members(
    members: Sequence[ResultFile], fusion: Mapping[str, object], described: Sequence[Mapping[str, object]]
) -> dict[str, object]:
    """Return the provenance of fused results, for `external_data`.

    Args:
        members: the files.
        fusion: fusion options, see `describe_fusion`.
        described: further values of each member, such as its weight.
    """
    entries: list[dict[str, object]] = []
    for member, more in zip(members, described, strict=True):
        external = {} if member.external_data is None else {"external_data": member.external_data}
        entries.append({"file": str(member.path), "sha256": member.sha256, **more, **external})
    return {"fusion": fusion, "members": entries, "versions": {"tsm-tal": __version__}}
