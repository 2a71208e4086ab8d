"""The table of an ablation for people: columns that fit a terminal, and what a reader has to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tsm_runtime.plain_table import console_text, plain_table
from tsm_runtime.terminal import printable
from tsm_runtime.wording import counted
from tsm_train.ablation.paper import SOURCE
from tsm_train.ablation.rows import Row
from tsm_train.ablation.table import Table

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 120


def table_to_text(table: Table) -> bytes:
    """Return the table in the width and encoding of standard output; scores in percent."""
    return console_text(lambda console: _print(table, console), plain_width=_PIPE_WIDTH)


def _print(table: Table, console: Console) -> None:
    console.print(
        f"{printable(table.name)}: {counted(table.videos, 'video')} of {table.subset!r},"
        f" {counted(table.instances, 'instance')} of {counted(len(table.actions), 'action')}",
        soft_wrap=True,
    )
    thresholds = list(table.rows[0].tiou)
    has_scene = any(row.scene_top1 is not None for row in table.rows)
    header = ["row", "mAP", *thresholds, "diff", "low", "high", *(["scene"] if has_scene else []), "min"]
    shown = plain_table("mAP %, its mean and at tIoU; difference to the first row, 95 % interval", header)
    for previous, row in zip((None, *table.rows), table.rows, strict=False):
        if previous is not None and previous.kind != row.kind:
            shown.add_section()
        scene = [_percent(row.scene_top1)] if has_scene else []
        cells = [_percent(row.map), *map(_percent, row.tiou.values()), _signed(row.difference)]
        span = row.difference_interval
        cells += ["", ""] if span is None else [_signed(span.low), _signed(span.high)]
        minutes = "" if row.minutes is None else f"{row.minutes:.1f}"
        shown.add_row(_name(row), *cells, *scene, minutes)
    console.print(shown)
    if paper := [row for row in table.rows if row.paper]:
        _print_paper(paper, console)
    for note in table.notes:
        console.print(f"- {printable(note)}")


def _print_paper(rows: Sequence[Row], console: Console) -> None:
    columns = ["row", "first public", "private", "extended public", "private"]
    shown = plain_table(f"The paper's rows, %: {SOURCE}", columns)
    for row in rows:
        if row.paper is not None:
            shown.add_row(printable(row.name), *map(_percent, row.paper.scores))
    console.print(shown)


def _name(row: Row) -> str:
    return printable(row.name) + (" (in sample)" if row.in_sample else "")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.1f}"
