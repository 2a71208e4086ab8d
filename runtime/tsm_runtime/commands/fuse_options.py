"""The options of `tsm-fuse`, as the two requests that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseRequest:
    """Which files are fused, how, and where to; None: not given."""

    members: Annotated[
        list[Path] | None, typer.Argument(help="files of segments, one for each member", show_default=False)
    ] = None
    weights: Annotated[
        str | None, typer.Option(help="w1,w2,... in the order of the files, above 0 [default: equal]")
    ] = None
    iou: Annotated[
        float | None,
        typer.Option(help="segments of a class whose temporal IoU exceeds it overlap [default: 0.5]"),
    ] = None
    denominator: Annotated[
        Literal["all", "present"] | None,
        typer.Option(
            help="confidence is sum(w c) / sum(w). all: over all members that have the video, so a segment"
            " that one of them misses loses confidence; present: over the members that found the segment"
            " [default: all]"
        ),
    ] = None
    method: Annotated[
        Literal["paper", "wbf", "nms", "soft-nms-linear", "soft-nms-gaussian"] | None,
        typer.Option(
            help="of overlapping segments: paper: their union with the maximum confidence; wbf: weighted"
            " mean bounds; nms: the best; soft-nms: all, the lower ones weakened [default: paper]"
        ),
    ] = None
    sigma: Annotated[
        float | None, typer.Option(help="width of soft-nms-gaussian [default: 0.5]", show_default=False)
    ] = None
    min_score: Annotated[
        float | None,
        typer.Option(help="drop candidates and fused segments of lower confidence [default: 0]"),
    ] = None
    labels: Annotated[
        Path | None, typer.Option(help='labels to rename, JSON or TOML: {"from": "to"}; for all members')
    ] = None
    label_map: Annotated[
        Path | None,
        typer.Option(help='class ids of Kaggle files as JSON: {"label": 1} [default: the 34 of BinEgo-360]'),
    ] = None
    offsets: Annotated[
        Path | None,
        typer.Option(
            help="where videos begin on their captures' time lines: a split file, or CSV video,offset_seconds"
        ),
    ] = None
    ensemble: Annotated[
        Path | None,
        typer.Option(help="ensemble.toml: members and options; files given beside it replace its files"),
    ] = None
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="file, or - for stdout [default: stdout; with --fit ensemble.toml]"
        ),
    ] = None
    format: Annotated[
        Literal["json", "csv", "kaggle"] | None,
        typer.Option("--format", help="[default: by the output's name, else json]"),
    ] = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The members' files."""
        return tuple(self.members or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRequest:
    """Options of `--fit`."""

    fit: Annotated[
        Path | None,
        typer.Option(
            help="ground truth of validation videos: find weights, IoU and minimum score (those that are not"
            " given) of the highest mAP, report their gain, and write ensemble.toml"
        ),
    ] = None
    subset: Annotated[
        str | None, typer.Option(help="subset of the ground truth [default: all its videos]")
    ] = None
    folds: Annotated[int, typer.Option(help="parts of the cross-validation of --fit", min=2)] = 5
    seed: Annotated[int, typer.Option(help="of --fit", min=0)] = 0
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="with --fit: also a temperature for each member's scores")
    ] = False
