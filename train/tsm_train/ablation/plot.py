"""The picture of an ablation: scores of each row, and differences to the first."""

from __future__ import annotations

import io

from tsm_runtime.wording import counted
from tsm_train.ablation.table import Table

_COLORS = {"member": "tab:blue", "ensemble": "tab:orange", "post-processing": "tab:green"}
_MARKS = ("<", "s", ">")


def draw_table(table: Table) -> bytes:
    """Draw mAP with its interval and at each threshold, and the difference to the first row, row by row.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    rows = table.rows
    figure = Figure(figsize=(11, 1.8 + 0.38 * len(rows)), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for place, row in enumerate(rows):
        color = _COLORS[row.kind]
        if row.map_interval is not None:
            span = (100 * row.map_interval.low, 100 * row.map_interval.high)
            left.plot(span, (place, place), color=color, alpha=0.4, linewidth=3)
        left.plot(100 * row.map, place, "o", color=color, markersize=7)
        for mark, value in zip(_MARKS, row.tiou.values(), strict=True):
            left.plot(100 * value, place, mark, color="gray", markersize=4)
        if row.difference_interval is not None:
            span = (100 * row.difference_interval.low, 100 * row.difference_interval.high)
            right.plot(span, (place, place), color=color, alpha=0.4, linewidth=3)
        if row.difference is not None:
            right.plot(100 * row.difference, place, "o", color=color, markersize=7)
    names = [row.name + (" (in sample)" if row.in_sample else "") for row in rows]
    left.set_yticks(range(len(rows)), [name.replace("$", r"\$") for name in names])
    left.invert_yaxis()
    marks = ", ".join(f"{mark} {t}" for mark, t in zip(("◁", "□", "▷"), rows[0].tiou, strict=True))
    left.set_xlabel(f"mAP in %: ● mean of tIoU {marks}; bar: 95 % interval")
    left.set_xlim(-2, 102)
    right.axvline(0, color="black", linewidth=0.8)
    right.set_xlabel("difference of the mean to the first row, points")
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
    figure.suptitle(
        f"{table.name}: {counted(table.videos, 'video')}, {counted(table.instances, 'instance')}".replace(
            "$", r"\$"
        ),
        fontsize=10,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
