"""Report of `tsm-eval`: computed as one value, written as JSON or as tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from tsm_runtime.evaluation.bootstrap import BootstrapIntervals, Interval, bootstrap_map
from tsm_runtime.evaluation.diagnosis import Diagnosis, diagnose
from tsm_runtime.evaluation.instance_traits import DEFAULT_NUM_BINS, Trait
from tsm_runtime.evaluation.matching import Matching, match_segments
from tsm_runtime.evaluation.modes import Mode
from tsm_runtime.evaluation.protocol import Evaluation, scene_accuracy, score_matching
from tsm_runtime.evaluation.reading import EvaluationInput
from tsm_runtime.evaluation.recall import REPORTED_NUMBERS, ProposalRecall, proposal_recall
from tsm_runtime.evaluation.tie_range import TieRange, tie_range
from tsm_runtime.plain_table import console_text, plain_table
from tsm_runtime.terminal import printable
from tsm_runtime.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_WIDTH = 200
"""Width of a table that goes to a file or a pipe, in columns; no line is wrapped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """Result of an evaluation.

    Args:
        mode: rules of the evaluation.
        matching: assignment of predictions to instances; all figures except recall are computed from it.
        subset: name of the subset; None if all videos are evaluated.
        num_videos: number of videos in the truth.
        evaluation: average precisions.
        ties: range of the average precisions over the orders of equal scores.
        recall: average recall of the predictions as proposals.
        scene_top1: share of the videos with the right scene; None without scenes in both files.
        num_scenes: number of videos with a true scene.
        bootstrap: confidence intervals; None if not requested.
        diagnosis: kinds of error; None if not requested.
        warnings: one line each.
    """

    mode: Mode
    matching: Matching
    subset: str | None
    num_videos: int
    evaluation: Evaluation
    ties: TieRange
    recall: ProposalRecall
    scene_top1: float | None
    num_scenes: int
    bootstrap: BootstrapIntervals | None
    diagnosis: Diagnosis | None
    warnings: tuple[str, ...]


def evaluate_input(
    given: EvaluationInput,
    mode: Mode,
    tiou_thresholds: Sequence[float],
    *,
    replicates: int = 0,
    seed: int = 0,
    traits: Sequence[Trait] | None = None,
    num_bins: int = DEFAULT_NUM_BINS,
) -> EvaluationReport:
    """Match once, then compute everything from the matches.

    Args:
        given: from `reading.read_evaluation_input`.
        mode: the mode that `given` was read with.
        tiou_thresholds: K numbers in (0, 1].
        replicates: number of bootstrap replicates; 0: no bootstrap.
        seed: seed of the bootstrap.
        traits: characteristics of instances for the diagnosis; None: no diagnosis.
        num_bins: number of bins of a characteristic without given borders.
    """
    truth = given.truth.segments
    matching = match_segments(
        truth,
        given.predictions,
        tiou_thresholds,
        mode.rules,
        unknown_videos=mode.unknown_videos == "count",
        empty_truth=given.empty_truth,
    )
    scenes = given.truth.scenes
    ties = tie_range(matching)
    return EvaluationReport(
        mode=mode,
        matching=matching,
        subset=given.subset,
        num_videos=len(given.truth.videos),
        evaluation=score_matching(matching, given.predictions),
        ties=ties,
        recall=_recall(given, mode),
        scene_top1=scene_accuracy(scenes, given.scenes) if scenes and given.scenes else None,
        num_scenes=len(scenes),
        bootstrap=bootstrap_map(matching, replicates=replicates, seed=seed) if replicates else None,
        diagnosis=None if traits is None else diagnose(matching, traits, num_bins=num_bins),
        warnings=(*given.warnings, *_order_warnings(matching, ties, mode)),
    )


def _order_warnings(matching: Matching, ties: TieRange, mode: Mode) -> Iterable[str]:
    """Yield a line for each figure that depends on the order of entries, not only on segments and scores."""
    if ties.tied_predictions and mode.rules.ties == "last_listed":
        yield (
            f"equal scores of {counted(ties.tied_predictions, 'prediction')}, whose order the imitated code"
            " leaves to an unstable sort of numpy: its own figure can be any in the range of ties"
        )
    pairs = matching.pairs
    equal = (pairs.prediction[1:] == pairs.prediction[:-1]) & (pairs.tiou[1:] == pairs.tiou[:-1])
    if count := len(np.unique(pairs.prediction[1:][equal])):
        yield (
            f"equal tIoUs of {counted(count, 'prediction')} with several instances; which of those are found"
            " is not in the range of ties"
        )


def _recall(given: EvaluationInput, mode: Mode) -> ProposalRecall:
    truth = given.truth.segments
    empty = [video for _, video in given.empty_truth if video is not None]
    judged = {video for video, instances in truth.items() if instances} | set(empty)
    elsewhere = sum(len(listed) for video, listed in given.predictions.items() if video not in judged)
    return proposal_recall(
        truth,
        given.predictions,
        rules=mode.rules,
        num_elsewhere=elsewhere if mode.unknown_videos == "count" else 0,
        empty_truth=empty,
    )


# --- JSON -----------------------------------------------------------------------------------------


def report_to_json(report: EvaluationReport) -> str:
    """Return one JSON object; values are 0 to 1, except AP in the mode 360x-kit; tIoU keys such as "0.5"."""
    found = report.evaluation
    keys = [f"{threshold:g}" for threshold in found.tiou_thresholds]
    document: dict[str, object] = {
        "average": found.average_map,
        "tiou": dict(zip(keys, found.map_per_tiou, strict=True)),
        "classes": {label: dict(zip(keys, ap, strict=True)) for label, ap in found.ap.items()},
        "mode": report.mode.name,
        "subset": report.subset,
        "videos": report.num_videos,
        "instances": found.num_truth,
        "predictions": found.num_predictions,
        "ignored": {
            "labels": found.ignored_labels,
            "videos": len(found.ignored_videos),
            "in_videos": sum(found.ignored_videos.values()),
        },
        "ties": _ties_object(report.ties, keys),
        "recall": {
            "at": {str(number): report.recall.at(number) for number in REPORTED_NUMBERS},
            "area": report.recall.area,
        },
        "scene": None
        if report.scene_top1 is None
        else {"top1": report.scene_top1, "videos": report.num_scenes},
        "warnings": list(report.warnings),
    }
    if report.bootstrap is not None:
        document["bootstrap"] = {
            **asdict(report.bootstrap),
            "tiou": dict(zip(keys, map(asdict, report.bootstrap.tiou), strict=True)),
        }
    if report.diagnosis is not None:
        document["diagnosis"] = asdict(report.diagnosis)
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _ties_object(ties: TieRange, keys: Sequence[str]) -> Mapping[str, object]:
    values = zip(keys, ties.lowest, ties.highest, ties.exact, strict=True)
    return {
        "tied_predictions": ties.tied_predictions,
        "average": {"lowest": ties.lowest_average, "highest": ties.highest_average},
        "tiou": {key: {"lowest": low, "highest": high, "exact": exact} for key, low, high, exact in values},
    }


# --- tables ---------------------------------------------------------------------------------------


def report_to_text(report: EvaluationReport, *, for_file: bool = False) -> bytes:
    """Return tables for reading, all numbers in percent.

    Args:
        report: the report.
        for_file: UTF-8 and wide; else in the encoding and width of standard output.
    """
    return console_text(
        lambda console: _print_report(report, console), plain_width=_PLAIN_WIDTH, for_file=for_file
    )


def _print_report(report: EvaluationReport, console: Console) -> None:
    found = report.evaluation
    subset = f"subset {report.subset}, " if report.subset else ""
    console.print(f"mode {report.mode.name}: {report.mode.summary}", soft_wrap=True)
    console.print(
        f"{printable(subset)}{counted(report.num_videos, 'video')}, {counted(found.num_truth, 'instance')}"
        f" of {counted(len(found.ap), 'class', 'classes')},"
        f" {counted(found.num_predictions, 'prediction')} judged",
        soft_wrap=True,
    )
    headings = [f"{threshold:g}" for threshold in found.tiou_thresholds]
    table = plain_table("AP % at tIoU", ["class", *headings, "mean"])
    for label, ap in found.ap.items():
        table.add_row(printable(label), *_percents(ap), _percent(sum(ap) / len(ap)))
    table.add_section()
    for name, values, average in _summary_rows(report):
        table.add_row(name, *values, average)
    console.print(table)
    for line in _lines(report):
        console.print(line, soft_wrap=True)
    if report.diagnosis is not None:
        _print_diagnosis(report.diagnosis, console)


def _summary_rows(report: EvaluationReport) -> Iterable[tuple[str, list[str], str]]:
    found, ties, intervals = report.evaluation, report.ties, report.bootstrap
    yield "all classes (mAP)", _percents(found.map_per_tiou), _percent(found.average_map)
    if intervals is not None:
        name = f"{100 * intervals.confidence:g} % interval"
        yield name, [_interval(i) for i in intervals.tiou], _interval(intervals.average)
    if ties.tied_predictions:
        yield "lowest by order of ties", _percents(ties.lowest), _percent(ties.lowest_average)
        yield "highest by order of ties", _percents(ties.highest), _percent(ties.highest_average)


def _lines(report: EvaluationReport) -> Iterable[str]:
    ties = report.ties
    if ties.tied_predictions:
        exact = [f"{t:g}" for t, e in zip(report.evaluation.tiou_thresholds, ties.exact, strict=True) if e]
        every = len(exact) == len(ties.exact)
        which = "every tIoU" if every else f"tIoU {', '.join(exact)}" if exact else "no tIoU"
        yield (
            f"{ties.tied_predictions} predictions share a score with another of their class; some order "
            f"reaches the lowest and highest mAP at {which}; elsewhere and for the mean no order goes beyond"
        )
    recall = "  ".join(f"@{number} {_percent(report.recall.at(number))}" for number in REPORTED_NUMBERS)
    yield f"average recall % at average number of proposals: {recall}  area {_percent(report.recall.area)}"
    if report.scene_top1 is not None:
        yield f"scene top-1 {_percent(report.scene_top1)} % of {counted(report.num_scenes, 'video')}"
    drawn = report.bootstrap
    if drawn is not None:
        yield f"intervals: {counted(drawn.replicates, 'replicate')} of the videos, seed {drawn.seed}"


def _print_diagnosis(diagnosis: Diagnosis, console: Console) -> None:
    profile = diagnosis.profile
    table = plain_table("Kinds of prediction, %, mean over tIoU", ["rank", *profile.kinds])
    for number, shares in enumerate(profile.shares, start=1):
        table.add_row(f"{number} G" if number == 1 else f"{number - 1}-{number} G", *_percents(shares))
    console.print(table)
    table = plain_table("Gain in % when a kind of error is removed", ["kind", "mAP", "normalised mAP"])
    for gain in diagnosis.gains:
        table.add_row(gain.kind, _percent(gain.average_map), _percent(gain.normalised_map))
    console.print(table)
    table = plain_table(
        f"Normalised mAP % ({_percent(diagnosis.normalised_map)} over all) and missed instances",
        ["characteristic", "bin", "instances", "normalised mAP", "missed"],
    )
    for trait in diagnosis.traits:
        for found in trait.bins:
            numbers = (found.normalised_map, found.missed)
            table.add_row(trait.name, printable(found.name), str(found.instances), *_percents(numbers))
        table.add_section()
    console.print(table)


def _percents(values: Iterable[float]) -> list[str]:
    return [_percent(value) for value in values]


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _interval(interval: Interval) -> str:
    return f"{_percent(interval.low)} to {_percent(interval.high)}"
