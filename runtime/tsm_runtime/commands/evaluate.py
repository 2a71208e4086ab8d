"""`tsm-eval`: ground truth and predictions in, scores out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.commands.reading_flags import ReadFlags
from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.modes import MODES, describe_modes
from tsm_runtime.terminal import warn, write_stdout

# Imports of numpy and rich wait until they are needed: --help answers at once.

app = new_app()

_HELP = f"""Score predicted segments against ground truth: mAP by the ActivityNet protocol.

Also: how far the order of equal scores could move it, average recall of proposals, scene top-1 (when both
files have scenes). Both files may be gzipped.

\b
Modes:
{describe_modes()}
"""


@command(app, text=_HELP)
def tsm_eval(
    *,
    ground_truth: Annotated[Path, typer.Argument(help="annotations in any format of docs/formats.md")],
    predictions: Annotated[
        Path, typer.Argument(help="segments, as tsm-run and every ActivityNet tool writes")
    ],
    subset: Annotated[
        str | None,
        typer.Option(help="videos to evaluate [default: validation, where there are several subsets]"),
    ] = None,
    reading: ReadFlags,
    tiou: Annotated[
        str | None,
        typer.Option(help="thresholds, as 0.5,0.75,0.95 or 0.5:0.05:0.95 [default: the mode's]"),
    ] = None,
    mode: Annotated[str, typer.Option(help="whose rules: " + ", ".join(MODES))] = next(iter(MODES)),
    bootstrap: Annotated[
        int, typer.Option(help="replicates for 95 % intervals over videos; 0: none", min=0)
    ] = 0,
    seed: Annotated[int, typer.Option(help="of the bootstrap", min=0)] = 0,
    diagnose: Annotated[
        bool, typer.Option("--diagnose", help="kinds of error, and by what instances are missed (DETAD)")
    ] = False,
    bins: Annotated[
        list[str] | None,
        typer.Option(
            help="for --diagnose: borders, as length=0,5,30 (repeat it), a number of quantiles, or detad",
            show_default=False,
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="one JSON object, values 0 to 1")] = False,
    page: Annotated[
        Path | None,
        typer.Option("--report", help="also write a page (.html): curves, confusion, diagnosis, timelines"),
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(help="for --report: other predictions, shown beside these")
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="file, or - for stdout")] = "-",
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Score predictions (its help is `_HELP`)."""
    if mode not in MODES:
        raise UsageError(f"--mode {mode}: no such mode; there are {', '.join(MODES)}")
    if bins and not diagnose:
        raise UsageError("--bins is for --diagnose; give both")
    if output != "-" and not Path(output).parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {Path(output).parent}")
    if compare is not None and page is None:
        raise UsageError("--compare is for --report; give both")
    if page is not None and not page.parent.is_dir():
        raise UsageError(f"--report {page}: there is no folder {page.parent}")
    from tsm_runtime.evaluation.instance_traits import parse_bins, read_traits
    from tsm_runtime.evaluation.reading import read_evaluation_input
    from tsm_runtime.evaluation.summary import evaluate_input, report_to_json, report_to_text
    from tsm_runtime.evaluation.thresholds import parse_thresholds
    from tsm_runtime.files import write_whole

    rules = MODES[mode]
    thresholds = parse_thresholds(tiou or rules.thresholds)
    given_bins, num_bins = parse_bins(bins or ())
    options = reading.options()
    given = read_evaluation_input(ground_truth, predictions, rules, subset, options)
    for line in given.warnings:
        warn(line)
    traits = (
        read_traits(ground_truth, given.truth, given_bins, strip_ids=rules.strip_truth_ids)
        if diagnose
        else None
    )
    report = evaluate_input(
        given, rules, thresholds, replicates=bootstrap, seed=seed, traits=traits, num_bins=num_bins
    )
    if page is not None:
        from tsm_runtime.outputs.report.evaluation_page import write_evaluation_page

        other = None
        if compare is not None:
            from tsm_runtime.outputs.report.comparison import OtherRun

            others = read_evaluation_input(ground_truth, compare, rules, subset, options)
            judged = evaluate_input(others, rules, thresholds)
            names = (compare.stem, predictions.stem)
            if names[0] == names[1]:
                names = (str(compare), str(predictions))
            other = OtherRun(
                name=names[0],
                own_name=names[1],
                predictions=others.predictions,
                evaluation=judged.evaluation,
            )
        write_evaluation_page(page, given, report, other)
    to_file = output != "-"
    data = report_to_json(report).encode() if json_ else report_to_text(report, for_file=to_file)
    if to_file:
        write_whole(Path(output), data)
    else:
        write_stdout(data)


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-eval")
