"""Holds clips of a stream back until the sound around them is known, or too late."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from tsm_runtime.audio.listening import Listening
from tsm_runtime.audio.patches import Patches, SoundTrack
from tsm_runtime.audio.spec import SoundSpec
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.live.backlog import Clip, Item

_log = logging.getLogger("tsm_runtime")

LATEST_SECONDS = 1.0
"""Pictures that are so much ahead of the sound go on without it."""


class SoundGate:
    """Passes items on in their order; clips get their sound.

    Args:
        spec: how sound is cut.
        grids: by the feeds whose models hear: their clips.
        name: of the source, for messages.
    """

    def __init__(self, spec: SoundSpec, grids: Mapping[int, ClipSpec], name: str) -> None:
        self._spec = spec
        self._grids = grids
        self._name = name
        self._held: deque[Item] = deque()
        self._listening: Listening | None = None
        self._origin_seconds = 0.0
        self._has_warned = False

    def listen(self, listening: Listening | None) -> None:
        """Take the sound of a new connection; None: it has none."""
        self._listening = listening
        self._has_warned = False

    def begin(self, origin_seconds: float) -> None:
        """Note the stream time of second 0 of the connection."""
        self._origin_seconds = origin_seconds

    def push(self, item: Item, *, is_last: bool = False) -> Iterator[Item]:
        """Take an item; yield those that need not wait any longer.

        Args:
            item: the next one.
            is_last: a break: nothing that came before it waits.
        """
        self._held.append(item)
        while self._held:
            first = self._held[0]
            if isinstance(first, Clip) and first.feed in self._grids:
                patches = self._patches(first, item.at.seconds, may_wait=not is_last)
                if patches is None:
                    return
                first = replace(first, sound=patches)
            self._held.popleft()
            yield first

    def _patches(self, clip: Clip, reached_seconds: float, *, may_wait: bool) -> Patches | None:
        """Return the sound of a clip; None: it is still to come."""
        grid = self._grids[clip.feed]
        middle = clip.index * grid.stride_seconds + grid.interval_seconds / 2 - self._origin_seconds
        middles = np.array([middle])
        if self._listening is None:
            return SoundTrack.silent(self._spec).patches(middles)
        end = middle + self._spec.window_seconds / 2
        if not self._listening.is_known(end):
            if may_wait and reached_seconds - self._origin_seconds < end + LATEST_SECONDS:
                return None
            self._warn()
        return self._listening.patches(middles)

    def _warn(self) -> None:
        """Report once for each connection that the sound is late."""
        if not self._has_warned:
            _log.warning(
                f"{self._name}: no sound within {LATEST_SECONDS:g} s of its pictures: they are scored alone"
                " until it comes"
            )
        self._has_warned = True
