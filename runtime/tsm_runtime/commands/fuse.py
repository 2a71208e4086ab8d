"""`tsm-fuse`: files of segments of several members in, one fused file out; or a fit of their weights."""

from __future__ import annotations

from typing import Annotated

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.commands.fuse_options import FitRequest, FuseRequest
from tsm_runtime.commands.reading_flags import ReadFlags
from tsm_runtime.errors import UsageError

# numpy and the rest are imported where they are needed: --help answers at once.

app = new_app()


@command(app)
def tsm_fuse(
    *,
    request: FuseRequest,
    fit: FitRequest,
    reading: ReadFlags,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no warnings, no report")] = False,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Fuse what several models found into one list of segments: weighted mean, then overlaps become one.

    Members that have not seen a video are left out of its denominator.
    """
    from tsm_runtime.commands.fuse_files import fit_and_write, fuse_and_write

    if fit.fit is not None:
        fit_and_write(request, fit, fit.fit, reading.options(), quiet=quiet)
        return
    if fit.calibrate or fit.subset is not None:
        raise UsageError(f"{'--calibrate' if fit.calibrate else '--subset'} goes with --fit GROUND_TRUTH")
    fuse_and_write(request, reading.options(), quiet=quiet)


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-fuse")
