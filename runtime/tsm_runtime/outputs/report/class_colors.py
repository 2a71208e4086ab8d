"""A colour per label that stays the same from page to page."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

NUM_COLORS = 10
"""Colours `--class-0` ... in assets/style.css.

Found by a search for the largest least distance in OKLab, seen with full colour vision and with each kind of
dichromacy (matrices of Machado et al. 2009), among colours whose contrast to the page is at least 3:1, once
for the light and once for the dark theme."""


def color_slots(labels: Iterable[str]) -> dict[str, int]:
    """Choose a colour number for each label.

    A label's first choice depends only on its name. If two labels of a page would share a colour while
    another is unused, the later by name takes the next one. So a label keeps its colour across pages unless a
    page has such a conflict, and up to `NUM_COLORS` labels have distinct colours.
    """
    slots: dict[str, int] = {}
    used = [0] * NUM_COLORS
    for label in sorted(set(labels)):
        wanted = zlib.crc32(label.encode("utf-8", "surrogatepass")) % NUM_COLORS
        order = [(wanted + step) % NUM_COLORS for step in range(NUM_COLORS)]
        slot = min(order, key=lambda i: used[i])
        used[slot] += 1
        slots[label] = slot
    return slots
