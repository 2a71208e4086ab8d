"""The paper's ablation table, to be printed beside one's own."""

from __future__ import annotations

from typing import Literal

import msgspec

from tsm_train.config import Config

SOURCE = (
    "Table 3 of the winning solution of the BinEgo-360 challenge (ICCV 2025): mAP over tIoU 0.5, 0.75 and"
    " 0.95 of its leaderboards, on 16 (first round) and 39 (extended round) test videos of 360+x"
)

NOTES = (
    "The paper does not state the members of its ensemble.",
    "In the extended round each of its single models lies below the baseline, and the ensemble at three times"
    " the best single model.",
    "Its ensemble weights came from the public leaderboard; the weights here come from validation videos.",
)


class PaperRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row; scores 0 to 1, as printed in the paper."""

    name: str
    task: Literal["single", "multi", ""]
    backbone: str
    interval_seconds: float
    first_public: float
    first_private: float
    extended_public: float
    extended_private: float

    @property
    def scores(self) -> tuple[float, float, float, float]:
        """First round public and private, extended round public and private."""
        return self.first_public, self.first_private, self.extended_public, self.extended_private


def _row(name: str, scores: tuple[float, float, float, float]) -> PaperRow:
    task, backbone, t = [*name.split("; "), "", ""][:3]
    model = {"Single": "single", "Multi": "multi"}.get(task, "")
    return PaperRow(
        name=name,
        task=model,  # type: ignore[arg-type]
        backbone=f"resnext101_{backbone}" if backbone else "",
        interval_seconds=float(t.removeprefix("t=") or 0),
        first_public=scores[0],
        first_private=scores[1],
        extended_public=scores[2],
        extended_private=scores[3],
    )


PAPER_TABLE = (
    _row("Baseline", (0.18656, 0.17647, 0.28571, 0.39013)),
    _row("Single; 32x8d; t=1.0", (0.17910, 0.34117, 0.06349, 0.16868)),
    _row("Single; 32x8d; t=0.5", (0.38059, 0.44705, 0.16666, 0.15916)),
    _row("Single; 32x8d; t=0.25", (0.35074, 0.38823, 0.13492, 0.11851)),
    _row("Single; 64x4d; t=0.5", (0.47761, 0.48235, 0.19047, 0.14273)),
    _row("Multi; 32x8d; t=0.5", (0.51492, 0.49411, 0.17460, 0.18771)),
    _row("Multi; 64x4d; t=0.5", (0.57462, 0.51764, 0.18253, 0.19377)),
    _row("Ensemble", (0.67910, 0.52941, 0.44444, 0.56314)),
)


def coinciding(config: Config, task: str) -> PaperRow | None:
    """Return the paper's row of the same task, backbone and interval.

    The paper's models have shift and one view, and neither a temporal head nor sound.
    """
    wanted = (task, config.model.backbone, config.clip.interval_seconds)
    ours = config.head is not None or config.audio is not None or len(config.data.views) > 1
    if not config.model.shift or ours:
        return None
    return next((r for r in PAPER_TABLE if (r.task, r.backbone, r.interval_seconds) == wanted), None)
