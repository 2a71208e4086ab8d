"""What `tsm-fuse` does with its options: check everything, read, fuse or fit, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from tsm_runtime.captures.offsets import read_offsets
from tsm_runtime.captures.placing import place_member
from tsm_runtime.commands.fuse_options import FitRequest, FuseRequest
from tsm_runtime.commands.fusion_flags import given_options, given_weights, refuse_beside_ensemble
from tsm_runtime.errors import UsageError
from tsm_runtime.files import is_folder, write_whole
from tsm_runtime.formats.annotations import read_annotations
from tsm_runtime.formats.kaggle import ACTION_IDS, read_label_map
from tsm_runtime.formats.names import known_format_of
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.formats.read_write import encode_results
from tsm_runtime.formats.result_file import ResultFile
from tsm_runtime.fusion.calibration import calibrated_result
from tsm_runtime.fusion.ensemble_file import Ensemble, EnsembleMember, ensemble_to_toml, read_ensemble
from tsm_runtime.fusion.fit import IOUS, MIN_SCORES, Fit, fit_ensemble
from tsm_runtime.fusion.fit_table import MapGain, gather_fit_table
from tsm_runtime.fusion.member_file import check_members, describe_members, fuse_files, read_member
from tsm_runtime.fusion.member_labels import check_member_labels, read_labels, rename_labels
from tsm_runtime.fusion.options import describe_fusion
from tsm_runtime.terminal import warn, write_stdout
from tsm_runtime.wording import counted

_FEW_VIDEOS = 10


def fuse_and_write(request: FuseRequest, reading: ReadOptions, *, quiet: bool) -> None:
    """Fuse the members' files into the output.

    Raises:
        UsageError: an option or a file is wrong; nothing is written.
        RunError: the output cannot be written.
    """
    ensemble = _ensemble(request)
    _check_output(request)
    _check_format(request)
    members, table = _read_members(request, ensemble, reading, quiet=quiet)
    for member, entry in zip(members, ensemble.members, strict=True):
        _check_calibration(member, entry.temperature)
    temperatures = [entry.temperature for entry in ensemble.members]
    fused = fuse_files(members, ensemble.weights, ensemble.options, temperatures)
    format_ = request.format or ("csv" if (request.output or "").lower().endswith(".csv") else "json")
    fusion = describe_fusion(ensemble.options) | ({"labels": table} if table else {})
    entries = [{"weight": entry.weight, "temperature": entry.temperature} for entry in ensemble.members]
    external_data = describe_members(members, fusion, entries)
    label_ids = _label_ids(request)
    _write(
        request.output or "-",
        encode_results(fused, format_, external_data=external_data, label_ids=label_ids),
    )


def _ensemble(request: FuseRequest) -> Ensemble:
    """Members and options, of the ensemble's file or of the command line."""
    names = ("weights", "iou", "denominator", "method", "sigma", "min_score")
    given = {name: getattr(request, name) for name in names}
    if request.ensemble is None:
        weights = given_weights(given.pop("weights"), len(request.files))
        files = zip(request.files, weights, strict=True)
        return Ensemble.of(
            given_options(given),
            (EnsembleMember(segments=str(path), weight=weight) for path, weight in files),
        )
    refuse_beside_ensemble(given, request.ensemble)
    ensemble = read_ensemble(request.ensemble)
    if request.files:
        if len(request.files) != len(ensemble.members):
            raise UsageError(
                f"{counted(len(request.files), 'file')} for the {counted(len(ensemble.members), 'member')} of"
                f" {request.ensemble}; give one for each, in its order, or none"
            )
        pairs = zip(ensemble.members, request.files, strict=True)
        members = tuple(structs.replace(member, segments=str(path)) for member, path in pairs)
        return structs.replace(ensemble, members=members)
    for number, member in enumerate(ensemble.members, start=1):
        if not member.segments:
            raise UsageError(
                f'{request.ensemble}: member {number} names no file of segments; write segments = "FILE"'
                " there, or give the files on the command line"
            )
    return ensemble


def _check_output(request: FuseRequest) -> None:
    if request.output is None or request.output == "-":
        return
    path = Path(request.output)
    if not request.output:
        raise UsageError("--output is empty; give a file, or - for standard output")
    if is_folder(path) or request.output.endswith("/"):
        raise UsageError(f"--output {path} is a folder; give the name of a file")
    if not is_folder(path.parent):
        raise UsageError(f"--output {path}: there is no folder {path.parent}")


def _check_format(request: FuseRequest) -> None:
    """Refuse an output for segments whose name means a format that tsm-fuse does not write."""
    if request.output is None or request.output == "-":
        return
    path = Path(request.output)
    if request.format is None and known_format_of(path.name) not in (None, "json", "csv"):
        raise UsageError(
            f"--output {path}: tsm-fuse writes JSON and CSV; name it .json or .csv, or give --format"
        )


def _read_members(
    request: FuseRequest, ensemble: Ensemble, reading: ReadOptions, *, quiet: bool
) -> tuple[list[ResultFile], dict[str, str]]:
    """Members with their labels renamed, and the table that renamed them."""
    table = read_labels(request.labels) if request.labels is not None else {}
    label_ids = _label_ids(request)
    read = [read_member(Path(member.segments), label_ids, reading) for member in ensemble.members]
    if request.output not in (None, "-"):
        for member in read:
            if member.path.resolve() == Path(request.output or "").resolve():
                raise UsageError(f"--output {request.output} is a member; choose another name")
    known = set().union(*(member.labels | member.scene_labels for member in read))
    warnings = [f"{request.labels}: no member has {label!r}" for label in sorted(set(table) - known)]
    renamed = [rename_labels(member, table) for member in read]
    members, notes = _on_time_lines(renamed, ensemble, request.offsets)
    warnings += notes
    warnings += check_members(members)
    check_member_labels(members, {*table, *table.values()})
    for line in () if quiet else warnings:
        warn(f"tsm-fuse: {line}")
    return members, table


def _on_time_lines(
    members: Sequence[ResultFile], ensemble: Ensemble, path: Path | None
) -> tuple[list[ResultFile], list[str]]:
    """Members as `place_member` puts them where their videos begin, and the warnings about it."""
    offsets = {} if path is None else read_offsets(path)
    placed, warnings = [], []
    for member, entry in zip(members, ensemble.members, strict=True):
        moved, notes = place_member(member, entry.view, entry.offset_seconds, offsets)
        placed.append(moved)
        warnings += notes
    return placed, warnings


def _label_ids(request: FuseRequest) -> Mapping[str, int | None]:
    return ACTION_IDS if request.label_map is None else read_label_map(request.label_map)


def _check_calibration(member: ResultFile, temperature: float) -> None:
    """Refuse scores that a temperature cannot calibrate."""
    for result in member.results.values() if temperature != 1 else ():
        try:
            calibrated_result(result, temperature)
        except UsageError as error:
            raise UsageError(f"{member.path}: {error}") from error


def _write(output: str, data: bytes) -> None:
    if output == "-":
        write_stdout(data)
    else:
        write_whole(Path(output), data)


# --- fit ------------------------------------------------------------------------------------------


def fit_and_write(
    request: FuseRequest, fit: FitRequest, truth_path: Path, reading: ReadOptions, *, quiet: bool
) -> None:
    """Fit weights, threshold and minimum score to ground truth, report their gain, and write them.

    Where cross-validation gives fitted parameters no advantage over equal weights, equal weights are written.

    Raises:
        UsageError: an option or a file is wrong; nothing is written.
        RunError: the output cannot be written.
    """
    for name in ("weights", "ensemble", "format"):
        if getattr(request, name) is not None:
            raise UsageError(f"--{name} beside --fit, which finds them; leave it out")
    request = replace(request, output=request.output or "ensemble.toml")
    ensemble = _ensemble(request)
    _check_output(request)
    truth = read_annotations(truth_path, options=reading)
    if fit.subset is not None:
        truth = truth.subset(fit.subset)
    members, table = _read_members(request, ensemble, reading, quiet=quiet)
    if fit.calibrate:
        for member in members:
            _check_calibration(member, 2.0)
    try:
        found = fit_ensemble(
            gather_fit_table([member.segments for member in members], truth.segments),
            ensemble.options,
            folds=fit.folds,
            seed=fit.seed,
            ious=IOUS if request.iou is None else (request.iou,),
            min_scores=MIN_SCORES if request.min_score is None else (request.min_score,),
            calibrate=fit.calibrate,
        )
    except UsageError as error:
        raise UsageError(f"--fit {truth_path}: {error}") from error
    if not quiet:
        for line in _report(found, members, len(truth.videos), fit.calibrate):
            warn(line)
    output = request.output or ""
    folder = Path() if output == "-" else Path(output).parent
    kept = _fitted(ensemble, found, members)
    comments = (
        "Members of an ensemble; apply it with: tsm-fuse --ensemble THIS_FILE [FILES] -o FUSED.json",
        f"Fitted to {_size(found)}: average mAP (%),"
        f" cross-validated {_percent(found.cross_validated)}, equal weights {_percent(found.equal)},"
        f" best member {_percent(max(found.member_maps))}.",
        *(["Videos were moved to time lines: give --offsets again."] if request.offsets else []),
        *(["Labels were renamed by a table: give the same --labels again."] if table else []),
    )
    _write(output, ensemble_to_toml(kept, folder, comments=comments).encode())


def _size(found: Fit) -> str:
    return f"{counted(found.num_videos, 'video')}, {counted(found.num_instances, 'instance')}"


def _keeps_fit(found: Fit) -> bool:
    return found.over_equal.value > 0


def _fitted(ensemble: Ensemble, found: Fit, members: Sequence[ResultFile]) -> Ensemble:
    setting = found.setting
    entries = [
        EnsembleMember(segments=str(member.path), bundle_sha256=member.bundle_sha256) for member in members
    ]
    if not _keeps_fit(found):
        return structs.replace(ensemble, members=tuple(entries))
    chosen = zip(entries, setting.weights, setting.temperatures, strict=True)
    return structs.replace(
        ensemble,
        iou=setting.iou,
        min_score=setting.min_score,
        members=tuple(structs.replace(e, weight=weight, temperature=t) for e, weight, t in chosen),
    )


def _report(found: Fit, members: Sequence[ResultFile], num_true_videos: int, calibrate: bool) -> list[str]:
    setting = found.setting
    best = max(range(len(members)), key=lambda number: found.member_maps[number])
    rows = [(str(member.path), value) for member, value in zip(members, found.member_maps, strict=True)]
    rows[best] = (f"{rows[best][0]} (best member)", rows[best][1])
    rows += [
        ("equal weights", found.equal),
        ("fitted, on the videos it was fitted to", found.in_sample),
        (f"fitted, cross-validated ({found.num_folds} folds)", found.cross_validated),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"average mAP (%) over {_size(found)}"]
    if num_true_videos > found.num_videos:
        lines.append(
            f"({counted(num_true_videos - found.num_videos, 'more video')} of the ground truth in no member)"
        )
    lines += [f"  {name:<{width}}  {_percent(value):>6}" for name, value in rows]
    lines.append(f"cross-validated - best member:   {_describe_gain(found.over_best)}")
    lines.append(f"cross-validated - equal weights: {_describe_gain(found.over_equal)}")
    unclear = [
        name
        for name, gain in (("best member", found.over_best), ("equal weights", found.over_equal))
        if not gain.is_clear
    ]
    if unclear:
        lines.append(
            f"too few videos ({found.num_videos}) to distinguish fitted from {' or from '.join(unclear)}"
        )
    if found.num_videos < _FEW_VIDEOS:
        lines.append(f"with {counted(found.num_videos, 'video')} the intervals themselves are rough")
    weights = ", ".join(f"{weight:g}" for weight in setting.weights)
    chosen = f"weights {weights}; iou {setting.iou:g}; min-score {setting.min_score:g}"
    if calibrate:
        chosen += "; temperatures " + ", ".join(f"{each:g}" for each in setting.temperatures)
    lines.append(f"fitted: {chosen}")
    if not _keeps_fit(found):
        lines.append("written: equal weights, since the fit gained nothing over them when cross-validated")
    return lines


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _describe_gain(gain: MapGain) -> str:
    return f"{100 * gain.value:+.2f} (95 % interval {100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
