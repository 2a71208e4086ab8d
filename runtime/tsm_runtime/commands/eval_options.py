"""The options of `tsm-eval`, as the request that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tsm_runtime.errors import UsageError
from tsm_runtime.evaluation.modes import MODES


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRequest:
    """Which files are compared, by which rules, and what is written; None: not given."""

    ground_truth: Annotated[Path, typer.Argument(help="annotations in any format of docs/formats.md")]
    predictions: Annotated[
        Path, typer.Argument(help="segments, as tsm-run and every ActivityNet tool writes")
    ]
    subset: Annotated[
        str | None,
        typer.Option(help="videos to evaluate [default: validation, where there are several subsets]"),
    ] = None
    tiou: Annotated[
        str | None,
        typer.Option(help="thresholds, as 0.5,0.75,0.95 or 0.5:0.05:0.95 [default: the mode's]"),
    ] = None
    mode: Annotated[str, typer.Option(help="whose rules: " + ", ".join(MODES))] = next(iter(MODES))
    bootstrap: Annotated[
        int, typer.Option(help="replicates for 95 % intervals over videos; 0: none", min=0)
    ] = 0
    seed: Annotated[int, typer.Option(help="of the bootstrap", min=0)] = 0
    diagnose: Annotated[
        bool, typer.Option("--diagnose", help="kinds of error, and by what instances are missed (DETAD)")
    ] = False
    bins: Annotated[
        list[str] | None,
        typer.Option(
            help="for --diagnose: borders, as length=0,5,30 (repeat it), a number of quantiles, or detad",
            show_default=False,
        ),
    ] = None
    json_: Annotated[bool, typer.Option("--json", help="one JSON object, values 0 to 1")] = False
    page: Annotated[
        Path | None,
        typer.Option("--report", help="also write a page (.html): curves, confusion, diagnosis, timelines"),
    ] = None
    compare: Annotated[
        Path | None, typer.Option(help="for --report: other predictions, shown beside these")
    ] = None
    output: Annotated[str, typer.Option("--output", "-o", help="file, or - for stdout")] = "-"

    @property
    def to_file(self) -> bool:
        """Whether the scores go to a file."""
        return self.output != "-"

    def check(self) -> None:
        """Refuse what cannot be done, before a file is read.

        Raises:
            UsageError: names the option.
        """
        if self.mode not in MODES:
            raise UsageError(f"--mode {self.mode}: no such mode; there are {', '.join(MODES)}")
        if self.bins and not self.diagnose:
            raise UsageError("--bins is for --diagnose; give both")
        if self.to_file and not Path(self.output).parent.is_dir():
            raise UsageError(f"--output {self.output}: there is no folder {Path(self.output).parent}")
        if self.compare is not None and self.page is None:
            raise UsageError("--compare is for --report; give both")
        if self.page is not None and not self.page.parent.is_dir():
            raise UsageError(f"--report {self.page}: there is no folder {self.page.parent}")
