"""The picture of a run: losses and validation scores per epoch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

_LOSSES = ("loss", "action_loss", "scene_loss")
_SCORES = ("map", "map_0.5", "map_0.75", "map_0.95", "scene_top1")


def draw_curves(rows: Sequence[Mapping[str, float]], title: str = "") -> bytes:
    """Draw the lines of metrics.csv, losses above and scores below, and the epoch of best.safetensors.

    Args:
        rows: of one epoch each; a score that a row lacks was not measured then.
        title: above the picture.

    Returns:
        A PNG.
    """
    # The figure alone, without pyplot: no window system, no state that outlives the call.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 7), dpi=120, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    best = best_epoch(rows)
    for axes, names, quantity in ((above, _LOSSES, "loss"), (below, _SCORES, "validation score")):
        for name in names:
            points = [(row["epoch"], row[name]) for row in rows if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=name)
        if best is not None:
            axes.axvline(best, color="gray", linestyle="--", linewidth=1, label=f"best epoch: {best:g}")
        axes.set_ylabel(quantity)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="small")
    below.set_xlabel("epoch")
    below.set_ylim(-0.03, 1.03)  # markers at 0 and 1 are whole
    below.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if rows:
        below.set_xlim(rows[0]["epoch"] - 0.5, rows[-1]["epoch"] + 0.5)
    if title:
        figure.suptitle(title.replace("$", r"\$"), fontsize=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def best_epoch(rows: Sequence[Mapping[str, float]]) -> float | None:
    """Return the epoch with the highest mAP, of equal ones the last; None without a validation."""
    scored = [(row["map"], row["epoch"]) for row in rows if "map" in row]
    return max(scored)[1] if scored else None
