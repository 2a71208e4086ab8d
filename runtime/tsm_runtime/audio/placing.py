"""Places of decoded samples on the time line of the pictures, and what was recorded of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tsm_runtime.audio.decoding import JITTER_SECONDS
from tsm_runtime.audio.spec import Samples, Span
from tsm_runtime.wording import counted

_LARGEST_DRIFT_SECONDS = 0.1
"""A piece that begins up to so much before or behind the end of the last one is moved by drift: the former is
cut, the latter leaves no gap."""

_LONGEST_GAP_SECONDS = 60.0
"""A longer step in the timestamps counts as a gap only where the container is long enough for it."""


@dataclass(slots=True, kw_only=True)
class Placing:
    """Finds the place of each piece of a track.

    Args:
        rate: samples per second.
        zero_seconds: of the first picture on the container's clock; None: the first piece is the zero.
    """

    rate: int
    zero_seconds: float | None
    spans: list[Span] = field(default_factory=list)
    """[start, end) in seconds of what was recorded, in order, without overlap."""
    _end: int | None = field(default=None, init=False)

    @property
    def end(self) -> int:
        """Index after the last sample placed."""
        return max(self._end or 0, 0)

    def place(
        self, start_seconds: float | None, samples: Samples, claimed_seconds: float = 0.0
    ) -> tuple[int, Samples]:
        """Return the index of the first sample of a piece, and its samples from time 0 on.

        A piece without a time, or with an impossible one, follows the last. Of a track whose samples run
        ahead of its timestamps, as where a recorder's clock is too fast, some samples are left out now and
        then.

        Args:
            start_seconds: on the container's clock.
            samples: (C, n).
            claimed_seconds: length of the container, up to which any gap is believed.
        """
        if self.zero_seconds is None and start_seconds is not None:
            self.zero_seconds = start_seconds
        begin = self._end or 0
        if start_seconds is not None:
            stated = round((start_seconds - (self.zero_seconds or 0.0)) * self.rate)
            if self._end is None or self._is_believable(stated - begin, stated, claimed_seconds):
                begin = stated
            elif _LARGEST_DRIFT_SECONDS * self.rate >= begin - stated > JITTER_SECONDS * self.rate:
                samples = samples[:, begin - stated :]  # the clock of the samples runs too fast
        self._end = begin + samples.shape[1]
        kept = samples[:, max(0, -begin) :]
        begin = max(begin, 0)
        self._note(begin / self.rate, (begin + kept.shape[1]) / self.rate)
        return begin, kept

    def gap_warning(self) -> Sequence[str]:
        """Return a message about the gaps, if there are any."""
        gaps = [(a[1], b[0]) for a, b in pairwise(self.spans)]
        if not gaps:
            return ()
        first = f"{gaps[0][0]:.2f} to {gaps[0][1]:.2f} s"
        return (f"sound: nothing was recorded in {counted(len(gaps), 'gap')}, the first {first}",)

    def _is_believable(self, step: int, stated: int, claimed_seconds: float) -> bool:
        """Whether a step in the timestamps is a gap: a small one is rounding, one back a restarted clock."""
        if step <= JITTER_SECONDS * self.rate:
            return False
        return step <= _LONGEST_GAP_SECONDS * self.rate or stated <= (claimed_seconds + 1.0) * self.rate

    def _note(self, begin: float, end: float) -> None:
        spans = self.spans
        if spans and begin - spans[-1][1] <= _LARGEST_DRIFT_SECONDS:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        elif end > begin:
            spans.append((begin, end))
