"""What `tsm-eval` does with its request: read, score, write."""

from __future__ import annotations

from pathlib import Path

from tsm_runtime.commands.eval_options import EvalRequest
from tsm_runtime.evaluation.instance_traits import parse_bins, read_traits
from tsm_runtime.evaluation.modes import MODES
from tsm_runtime.evaluation.reading import EvaluationInput, read_evaluation_input
from tsm_runtime.evaluation.summary import EvaluationReport, evaluate_input, report_to_json, report_to_text
from tsm_runtime.evaluation.thresholds import parse_thresholds
from tsm_runtime.files import write_whole
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.terminal import warn, write_stdout


def evaluate_and_write(request: EvalRequest, options: ReadOptions) -> None:
    """Score the predictions; write the scores, and the page where one is requested.

    Args:
        request: what is scored, and where to.
        options: for reading files of other tools.

    Raises:
        UsageError: a file or an option is wrong.
        RunError: a file cannot be written.
    """
    given = _read(request, request.predictions, options)
    for line in given.warnings:
        warn(line)
    report = _scored(request, given)
    if request.page is not None:
        _write_page(request, request.page, given, report, options)
    if request.json_:
        data = report_to_json(report).encode()
    else:
        data = report_to_text(report, for_file=request.to_file)
    if request.to_file:
        write_whole(Path(request.output), data)
    else:
        write_stdout(data)


def _read(request: EvalRequest, predictions: Path, options: ReadOptions) -> EvaluationInput:
    return read_evaluation_input(
        request.ground_truth, predictions, MODES[request.mode], request.subset, options
    )


def _scored(request: EvalRequest, given: EvaluationInput) -> EvaluationReport:
    rules = MODES[request.mode]
    thresholds = parse_thresholds(request.tiou or rules.thresholds)
    bins, num_bins = parse_bins(request.bins or ())
    traits = None
    if request.diagnose:
        traits = read_traits(request.ground_truth, given.truth, bins, strip_ids=rules.strip_truth_ids)
    return evaluate_input(
        given,
        rules,
        thresholds,
        replicates=request.bootstrap,
        seed=request.seed,
        traits=traits,
        num_bins=num_bins,
    )


def _write_page(
    request: EvalRequest, page: Path, given: EvaluationInput, report: EvaluationReport, options: ReadOptions
) -> None:
    from tsm_runtime.outputs.report.comparison import OtherRun
    from tsm_runtime.outputs.report.evaluation_page import write_evaluation_page

    other = None
    if request.compare is not None:
        others = _read(request, request.compare, options)
        rules = MODES[request.mode]
        judged = evaluate_input(others, rules, parse_thresholds(request.tiou or rules.thresholds))
        names = (request.compare.stem, request.predictions.stem)
        if names[0] == names[1]:
            names = (str(request.compare), str(request.predictions))
        other = OtherRun(
            name=names[0], own_name=names[1], predictions=others.predictions, evaluation=judged.evaluation
        )
    sources = (str(request.ground_truth), str(request.predictions))
    write_evaluation_page(page, given, report, other, sources)
