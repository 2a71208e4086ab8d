"""`tsm-fuse`: files of segments of several members in, one fused file out; or a fit of their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tsm_runtime.commands.entry import command, new_app, run_command, version_option
from tsm_runtime.errors import UsageError

# Imports of numpy and the rest wait until they are needed: --help answers at once.

app = new_app()


@command(app)
def tsm_fuse(
    members: Annotated[
        list[Path] | None, typer.Argument(help="files of segments, one for each member", show_default=False)
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="w1,w2,... in the order of the files, above 0 [default: equal]")
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(help="segments of a class whose temporal IoU exceeds it overlap [default: 0.5]"),
    ] = None,
    denominator: Annotated[
        Literal["all", "present"] | None,
        typer.Option(
            help="confidence is sum(w c) / sum(w). all: over all members that have the video, so a segment"
            " that one of them misses loses confidence; present: over the members that found the segment"
            " [default: all]"
        ),
    ] = None,
    method: Annotated[
        Literal["paper", "wbf", "nms", "soft-nms-linear", "soft-nms-gaussian"] | None,
        typer.Option(
            help="of overlapping segments: paper: their union with the maximum confidence; wbf: weighted"
            " mean bounds; nms: the best; soft-nms: all, the lower ones weakened [default: paper]"
        ),
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="width of soft-nms-gaussian [default: 0.5]", show_default=False)
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(help="drop candidates and fused segments of lower confidence [default: 0]"),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help='labels to rename, JSON or TOML: {"from": "to"}; for all members')
    ] = None,
    label_map: Annotated[
        Path | None,
        typer.Option(help='class ids of Kaggle files as JSON: {"label": 1} [default: the 34 of BinEgo-360]'),
    ] = None,
    offsets: Annotated[
        Path | None,
        typer.Option(
            help="where videos begin on their captures' time lines: a split file, or CSV video,offset_seconds"
        ),
    ] = None,
    ensemble: Annotated[
        Path | None,
        typer.Option(help="ensemble.toml: members and options; files given beside it replace its files"),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="file, or - for stdout [default: stdout; with --fit ensemble.toml]"
        ),
    ] = None,
    format_: Annotated[
        Literal["json", "csv", "kaggle"] | None,
        typer.Option("--format", help="[default: by the output's name, else json]"),
    ] = None,
    fit: Annotated[
        Path | None,
        typer.Option(
            help="ground truth of validation videos: find weights, IoU and minimum score (those that are not"
            " given) of the highest mAP, tell what they are worth, and write ensemble.toml"
        ),
    ] = None,
    subset: Annotated[
        str | None, typer.Option(help="subset of the ground truth [default: all its videos]")
    ] = None,
    folds: Annotated[int, typer.Option(help="parts of the cross-validation of --fit", min=2)] = 5,
    seed: Annotated[int, typer.Option(help="of --fit", min=0)] = 0,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="with --fit: also a temperature for each member's scores")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no warnings, no report")] = False,
    version: Annotated[bool, version_option()] = False,
) -> None:
    """Fuse what several models found into one list of segments: weighted mean, then overlaps become one.

    Members that have not seen a video are left out of its denominator.
    """
    from tsm_runtime.commands.fuse_files import FitRequest, FuseRequest, fit_and_write, fuse_and_write

    request = FuseRequest(
        files=tuple(members or ()),
        weights=weights,
        iou=iou,
        denominator=denominator,
        method=method,
        sigma=sigma,
        min_score=min_score,
        labels=labels,
        label_map=label_map,
        offsets=offsets,
        ensemble=ensemble,
        output=output,
        format=format_,
        quiet=quiet,
    )
    if fit is not None:
        fit_and_write(
            request, FitRequest(truth=fit, subset=subset, folds=folds, seed=seed, calibrate=calibrate)
        )
        return
    if calibrate or subset is not None:
        raise UsageError(f"{'--calibrate' if calibrate else '--subset'} goes with --fit GROUND_TRUTH")
    fuse_and_write(request)


def main() -> None:
    """Run the command."""
    run_command(app, "tsm-fuse")
