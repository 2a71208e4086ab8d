"""Models, weights and fusion options of a command line or an ensemble file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tsm_runtime.bundle.finding import find_bundle
from tsm_runtime.commands.fusion_flags import given_options, given_weights
from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.candidates import Denominator
from tsm_runtime.fusion.ensemble_file import Ensemble, EnsembleMember, read_ensemble
from tsm_runtime.fusion.fuse import Method

_FOR_SEVERAL = ("weights", "iou", "denominator", "method")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """Options of the command as given; None where not."""

    models: tuple[Path, ...] = ()
    ensemble: Path | None = None
    weights: str | None = None
    iou: float | None = None
    denominator: Denominator | None = None
    method: Method | None = None
    min_score: float | None = None


def choose_models(request: ModelRequest) -> tuple[Ensemble, str | None]:
    """Return the models as members of an ensemble, which may be one alone, before any is opened.

    Returns:
        The ensemble, and a line that says so where its only member is the embedded demo model.

    Raises:
        UsageError: options that do not go together, a wrong value, or a model given twice.
    """
    if request.ensemble is not None:
        return _of_file(request, request.ensemble), None
    if len(request.models) > 1:
        ensemble = _of_options(request, given_weights(request.weights, len(request.models)))
        _check_distinct(ensemble, "give it a higher weight (--weights)")
        return ensemble, None
    for name in _FOR_SEVERAL:
        if getattr(request, name) is not None:
            raise UsageError(f"--{name} is for several models: give --model twice or more, or leave it out")
    path, notice = find_bundle(request.models[0] if request.models else None)
    return _of_options(ModelRequest(models=(path,), min_score=request.min_score), (1.0,)), notice


def _of_options(request: ModelRequest, weights: Sequence[float]) -> Ensemble:
    options = given_options(
        method=request.method,
        iou=request.iou,
        denominator=request.denominator,
        min_score=request.min_score,
    )
    return Ensemble(
        method=options.method,
        iou=options.iou,
        denominator=options.denominator,
        min_score=options.min_score,
        members=tuple(
            EnsembleMember(bundle=str(path), weight=weight)
            for path, weight in zip(request.models, weights, strict=True)
        ),
    )


def _of_file(request: ModelRequest, path: Path) -> Ensemble:
    if request.models:
        raise UsageError(f"--model beside --ensemble: {path} names its bundles; change them there")
    for name in (*_FOR_SEVERAL, "min_score"):
        if getattr(request, name) is not None:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} beside --ensemble: {path} says it; change it there")
    ensemble = read_ensemble(path)
    for number, member in enumerate(ensemble.members, start=1):
        if not member.bundle:
            raise UsageError(
                f'{path}: member {number} ({member.segments}) names no bundle; write bundle = "FOLDER" there,'
                " or fuse files of segments with tsm-fuse"
            )
    if len(ensemble.members) < 2:
        raise UsageError(f"{path}: one member; fusion takes two or more: run a single model with --model")
    _check_distinct(ensemble, f"give it a higher weight in {path}")
    return ensemble


def _check_distinct(ensemble: Ensemble, remedy: str) -> None:
    seen = [(Path(member.bundle).resolve(), member.view) for member in ensemble.members]
    for number, member in enumerate(ensemble.members):
        if seen[number] in seen[:number]:
            raise UsageError(f"model {member.bundle} is given twice; to let it count for more, {remedy}")


def check_one_view(ensemble: Ensemble) -> None:
    """Check that all members can run on one video.

    Raises:
        UsageError: the ensemble's file says that they see several views, or that their videos do not begin
            together.
    """
    for name in ("view", "offset_seconds"):
        told = {getattr(member, name) or None for member in ensemble.members}
        if len(told) > 1:
            shown = ", ".join(sorted(str(value) for value in told - {None}))
            raise UsageError(
                f"the members differ in {name} ({shown}): give the videos of a capture with --capture or"
                " --view, not one video for all"
            )
