"""A colour per label: the same on pages, in videos and in pictures of a run."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

LIGHT = (
    *("#974e66", "#751808", "#e65719", "#5a5d04", "#519465"),
    *("#2d8afc", "#062da1", "#7647c7", "#621272", "#cf55b7"),
)
"""Colours on a white ground."""

DARK = (
    *("#d03765", "#f2a58a", "#c77533", "#84bc04", "#83f2ba"),
    *("#1177e7", "#5faef5", "#e1cdfe", "#886e99", "#f66fc5"),
)
"""Colours on a black ground, one for each of `LIGHT`.

Both were found by a search for the largest least distance in OKLab, seen with full colour vision and with
each kind of dichromacy (matrices of Machado et al. 2009), among colours whose contrast to the ground is at
least 3:1. assets/style.css of the report has the same as `--class-0` ..."""

NUM_COLORS = len(LIGHT)


def color_slots(shown: Iterable[str], others: Iterable[str] = ()) -> dict[str, int]:
    """Choose a colour number for each label.

    A label's first choice depends only on its name. If two labels would share a colour while another is
    unused, the later by name takes the next one. So a label keeps its colour across pages unless a page has
    such a conflict, and up to `NUM_COLORS` shown labels have distinct colours.

    Args:
        shown: labels that are drawn; they choose first.
        others: labels that are only named, such as classes that were not found.
    """
    slots: dict[str, int] = {}
    used = [0] * NUM_COLORS
    first = set(shown)
    for label in (*sorted(first), *sorted(set(others) - first)):
        wanted = zlib.crc32(label.encode("utf-8", "surrogatepass")) % NUM_COLORS
        order = [(wanted + step) % NUM_COLORS for step in range(NUM_COLORS)]
        slot = min(order, key=lambda i: used[i])
        used[slot] += 1
        slots[label] = slot
    return slots
