"""`tsm-eval`: ground truth and predictions in, scores out."""

from __future__ import annotations

from typing import Annotated

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.commands.eval_options import EvalRequest
from tsm_runtime.commands.reading_flags import ReadFlags
from tsm_runtime.evaluation.modes import describe_modes

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
    *, request: EvalRequest, reading: ReadFlags, version: Annotated[bool, version_option()] = False
) -> None:
    """Score predictions (its help is `_HELP`)."""
    request.check()
    from tsm_runtime.commands.eval_files import evaluate_and_write

    evaluate_and_write(request, reading.options())


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-eval")
