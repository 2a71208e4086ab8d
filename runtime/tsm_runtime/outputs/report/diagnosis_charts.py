"""A diagnosis of errors as the bar charts of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tsm_runtime.evaluation.diagnosis import Diagnosis, TraitBins

Chart = Mapping[str, Mapping[str, float]]


def diagnosis_charts(diagnosis: Diagnosis) -> dict[str, Chart]:
    """Return charts by title in percent, for `EvaluationCharts.diagnosis`.

    The charts are: kinds of prediction by rank; the gain of removing each kind of error; and, for each
    characteristic of the instances, the normalised mAP and the share of missed instances.
    """
    profile = diagnosis.profile
    slices = enumerate(zip(profile.predictions, profile.shares, strict=True), start=1)
    charts: dict[str, Chart] = {
        "Kinds of prediction by rank, % (G: true instances of a class)": {
            f"{n} G ({count})": dict(zip(profile.kinds, _percents(shares), strict=True))
            for n, (count, shares) in slices
        },
        "Gain in average mAP without one kind of error, points": {
            gain.kind: {"gain": 100 * max(0.0, gain.average_map)} for gain in diagnosis.gains
        },
    }
    for trait in diagnosis.traits:
        charts[f"Normalised mAP by {trait.name}, %"] = _bars(trait, "normalised mAP")
        charts[f"Missed instances by {trait.name}, %"] = _bars(trait, "missed")
    return charts


def _percents(shares: Iterable[float]) -> list[float]:
    return [100 * share for share in shares]


def _bars(trait: TraitBins, part: str) -> Chart:
    return {
        f"{each.name} ({each.instances})": {
            part: 100 * (each.missed if part == "missed" else each.normalised_map)
        }
        for each in trait.bins
    }
