"""The picture of a run: losses and validation scores per epoch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

_LOSSES = ("loss", "action_loss", "scene_loss")
_SCORES = ("map", "map_0.5", "map_0.75", "map_0.95", "scene_top1")


def draw_curves(rows: Sequence[Mapping[str, float]]) -> bytes:
    """Draw the lines of metrics.csv, losses above and scores below.

    Args:
        rows: of one epoch each; a score that a row lacks was not measured then.

    Returns:
        A PNG.
    """
    # The figure alone, without pyplot: no window system, no state that outlives the call.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 7), dpi=120, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for axes, names, title in ((above, _LOSSES, "loss"), (below, _SCORES, "validation score")):
        for name in names:
            points = [(row["epoch"], row[name]) for row in rows if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="small")
    below.set_xlabel("epoch")
    below.set_ylim(0, 1)
    below.xaxis.get_major_locator().set_params(integer=True)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
