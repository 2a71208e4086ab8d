"""The picture of an ablation: scores of each row, and differences to the first."""

from __future__ import annotations

import io
from typing import Any

from tsm_runtime.wording import counted
from tsm_train.ablation.rows import Row
from tsm_train.ablation.table import Table

_COLORS = {"member": "tab:blue", "ensemble": "tab:orange", "post-processing": "tab:green"}
_MARKS = ("<", "s", ">")


def draw_table(table: Table) -> bytes:
    """Draw mAP with its interval and at each threshold, and the difference to the first row, row by row.

    Of an ensemble that was fitted to the reported videos, its cross-validated mAP is drawn too, hollow.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    rows = table.rows
    figure = Figure(figsize=(11, 2.3 + 0.38 * len(rows)), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for place, row in enumerate(rows):
        _draw_row(left, right, place, row)
    names = [row.name + (" (in sample)" if row.in_sample else "") for row in rows]
    left.set_yticks(range(len(rows)), [name.replace("$", r"\$") for name in names])
    left.invert_yaxis()
    left.set_xlabel("mAP in %")
    left.set_xlim(-2, 102)
    right.axvline(0, color="black", linewidth=0.8)
    right.set_xlabel("difference of the mean to the first row, points")
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
    title = f"{table.name}: {counted(table.videos, 'video')}, {counted(table.instances, 'instance')}"
    figure.suptitle(title.replace("$", r"\$"), fontsize=10)
    handles = _legend(rows)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def cross_validated_map(row: Row) -> float | None:
    """Return the mAP of a fitted ensemble on videos that it was not fitted to; None for other rows."""
    value = row.detail.get("cross_validated_map")
    return None if value is None else float(str(value))


def _draw_row(left: Any, right: Any, place: int, row: Row) -> None:
    color = _COLORS[row.kind]
    for axes, value, interval in (
        (left, row.map, row.map_interval),
        (right, row.difference, row.difference_interval),
    ):
        if interval is not None:
            span = (100 * interval.low, 100 * interval.high)
            axes.plot(span, (place, place), color=color, alpha=0.4, linewidth=3)
        if value is not None:
            axes.plot(100 * value, place, "o", color=color, markersize=7)
    for mark, value in zip(_MARKS, row.tiou.values(), strict=True):
        left.plot(100 * value, place, mark, color="gray", markersize=4)
    if (crossed := cross_validated_map(row)) is not None:
        left.plot(100 * crossed, place, "o", color=color, markersize=8, markerfacecolor="white")


def _legend(rows: tuple[Row, ...]) -> list[Any]:
    """Return an entry for each mark that is drawn, with the mark itself."""
    from matplotlib.lines import Line2D

    def entry(mark: str, label: str, **style: Any) -> Line2D:
        return Line2D([], [], **{"color": "gray", "marker": mark, "linestyle": "", "label": label} | style)

    entries = [entry("o", "mean over tIoU", markersize=7)]
    if any(cross_validated_map(row) is not None for row in rows):
        entries.append(entry("o", "mean, cross-validated", markersize=8, markerfacecolor="white"))
    entries += [entry(mark, f"tIoU {t}", markersize=4) for mark, t in zip(_MARKS, rows[0].tiou, strict=True)]
    if any(row.map_interval is not None for row in rows):
        entries.append(entry("", "95 % interval", linestyle="-", linewidth=3, alpha=0.4))
    return entries
