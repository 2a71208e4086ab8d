"""Models, weights and fusion options of a command line or an ensemble file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tsm_runtime.bundle.finding import find_bundle
from tsm_runtime.commands.fusion_flags import given_options, given_weights, refuse_beside_ensemble
from tsm_runtime.commands.model_options import FusionFlags
from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.ensemble_file import Ensemble, EnsembleMember, read_ensemble

_FOR_SEVERAL = ("weights", "iou", "denominator", "method")


def choose_models(
    models: Sequence[Path] | None, fusion: FusionFlags, min_score: float | None
) -> tuple[Ensemble, str | None]:
    """Return the models as members of an ensemble, which may be one alone, before any is opened.

    Args:
        models: bundles; None or empty: those of the ensemble's file, else see `find_bundle`.
        fusion: how the results of several are fused.
        min_score: of segments; None: not given.

    Returns:
        The ensemble, and a line that says so where its only member is the embedded demo model.

    Raises:
        UsageError: options that do not go together, a wrong value, or a model given twice.
    """
    given = {name: getattr(fusion, name) for name in _FOR_SEVERAL}
    if fusion.ensemble is not None:
        if models:
            raise UsageError(
                f"--model beside --ensemble: {fusion.ensemble} names its bundles; change them there"
            )
        refuse_beside_ensemble(given | {"min_score": min_score}, fusion.ensemble)
        return _of_file(fusion.ensemble), None
    if models and len(models) > 1:
        weights = given_weights(given.pop("weights"), len(models))
        options = given_options(given | {"min_score": min_score})
        members = [EnsembleMember(bundle=str(p), weight=w) for p, w in zip(models, weights, strict=True)]
        ensemble = Ensemble.of(options, members)
        _check_distinct(ensemble, "give it a higher weight (--weights)")
        return ensemble, None
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"--{name} is for several models: give --model twice or more, or leave it out")
    path, notice = find_bundle(models[0] if models else None)
    options = given_options({"min_score": min_score})
    return Ensemble.of(options, [EnsembleMember(bundle=str(path))]), notice


def _of_file(path: Path) -> Ensemble:
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
        given = {getattr(member, name) or None for member in ensemble.members}
        if len(given) > 1:
            shown = ", ".join(sorted(str(value) for value in given - {None}))
            raise UsageError(
                f"the members differ in {name} ({shown}): give the videos of a capture with --capture or"
                " --view, not one video for all"
            )
