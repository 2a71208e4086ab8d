"""Ensembles of trained members: weights by validation score, equal, given, or searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tsm_runtime.files import write_whole
from tsm_runtime.formats.detection_json import results_to_json
from tsm_runtime.formats.result_file import ResultFile
from tsm_runtime.fusion.fit import fit_ensemble
from tsm_runtime.fusion.fit_table import gather_fit_table
from tsm_runtime.fusion.member_file import describe_members, fuse_files
from tsm_runtime.fusion.options import FusionOptions, describe_fusion
from tsm_runtime.results import Segment
from tsm_train.ablation.config import EnsembleConfig

_LEAST = 1e-6
"""In place of a score of 0: a weight must be above that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """A row: how members are fused."""

    name: str
    weights: tuple[float, ...]
    options: FusionOptions
    detail: Mapping[str, object] = field(default_factory=dict)
    is_fitted: bool = False


def weights_by_score(scores: Sequence[float]) -> tuple[float, ...]:
    """Return weights in proportion to scores, rounded as in the table; equal ones where all scores are 0."""
    if not any(scores):
        return (1.0,) * len(scores)
    return tuple(max(round(score, 6), _LEAST) for score in scores)


def mixtures(
    config: EnsembleConfig,
    scores: Sequence[float],
    validation: Sequence[ResultFile],
    truth: Mapping[str, Sequence[Segment]],
) -> list[Mixture]:
    """Return the ensembles to be compared.

    Args:
        config: the section.
        scores: mAP of each member on the validation videos.
        validation: what each member found there.
        truth: of the validation videos.
    """
    equal = Mixture(name="ensemble-equal", weights=(1.0,) * len(scores), options=config.options)
    found = [equal]
    if config.weights == "validation":
        found = [replace(equal, name="ensemble-validation", weights=weights_by_score(scores)), equal]
    elif not isinstance(config.weights, str):
        found = [replace(equal, name="ensemble-given", weights=config.weights), equal]
    if config.fitted and len(truth) >= 2:
        found.append(_fitted(config.options, validation, truth))
    return found


def _fitted(
    options: FusionOptions, members: Sequence[ResultFile], truth: Mapping[str, Sequence[Segment]]
) -> Mixture:
    found = fit_ensemble(gather_fit_table([member.segments for member in members], truth), options)
    setting = found.setting
    return Mixture(
        name="ensemble-fitted",
        weights=setting.weights,
        options=replace(options, iou=setting.iou, min_score=setting.min_score),
        detail={
            "cross_validated_map": found.cross_validated,
            "folds": found.num_folds,
            "over_best_member": {
                "value": found.over_best.value,
                "low": found.over_best.low,
                "high": found.over_best.high,
            },
        },
        is_fitted=True,
    )


def write_fused(mixture: Mixture, members: Mapping[str, ResultFile], path: Path) -> dict[str, object]:
    """Fuse members' files into one, as `tsm-fuse` does.

    Returns:
        What the table shows of the mixture.

    Raises:
        RunError: the file cannot be written.
    """
    files = list(members.values())
    fusion = describe_fusion(mixture.options)
    # The table stays valid where the folder is moved: names, not paths; and no external data of members.
    bare = [replace(file, path=Path(file.path.name), external_data=None) for file in files]
    external_data = describe_members(bare, fusion, [{"weight": weight} for weight in mixture.weights])
    write_whole(path, results_to_json(fuse_files(files, mixture.weights, mixture.options), external_data))
    weights = dict(zip(members, mixture.weights, strict=True))
    return {"weights": weights, "fusion": fusion, **mixture.detail}
