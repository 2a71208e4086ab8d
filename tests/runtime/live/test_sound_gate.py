"""Clips of a stream wait for their sound, in order, and not longer than a second."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from hearing import SEEN, SPEC

from tsm_runtime.audio.patches import Patches
from tsm_runtime.live.backlog import Break, Clip, Item, Moment, Passed
from tsm_runtime.live.sound_gate import LATEST_SECONDS, SoundGate


@dataclass
class Heard:
    """Sound that is known up to some second; patches hold their middles."""

    known: float = 0.0
    middles: list[float] = field(default_factory=list)

    def is_known(self, end_seconds: float) -> bool:
        return self.known >= end_seconds

    def patches(self, middles: npt.NDArray[np.float64]) -> Patches:
        self.middles += middles.tolist()
        return Patches(np.zeros((1, *SPEC.patch_shape), np.float32), np.ones(1, np.float32))

    def close(self) -> None: ...


def at(seconds: float) -> Moment:
    return Moment(seconds, 0.0, 0.0)


def clip(index: int, feed: int = 0) -> Clip:
    frames = np.zeros(SEEN.clip_shape, np.uint8)
    return Clip(at=at((index + 1) * 0.5), feed=feed, index=index, frames=frames, after_gap=False)


def passed(gate: SoundGate, *items: Item) -> list[object]:
    return [
        (each.index, each.sound is not None) if isinstance(each, Clip) else type(each).__name__
        for item in items
        for each in gate.push(item, is_last=isinstance(item, Break))
    ]


def test_clips_wait_for_their_sound_and_keep_their_order() -> None:
    gate, heard = SoundGate(SPEC, {0: SEEN}, "cam"), Heard()
    gate.listen(heard)
    assert passed(gate, clip(0), Passed(at=at(0.5), feed=0, stop=1), clip(0, feed=1)) == []
    heard.known = 0.56  # 0.25 s + half of 0.6 s
    assert passed(gate, clip(1)) == [(0, True), "Passed", (0, False)]
    assert passed(gate, Break(at=at(1.0), reason="lost")) == [(1, True), "Break"]
    assert heard.middles == [0.25, 0.75]


def test_late_sound_is_given_up_and_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    gate, heard = SoundGate(SPEC, {0: SEEN}, "cam"), Heard()
    gate.listen(heard)
    found = passed(gate, *(clip(index) for index in range(8)))
    waiting = round((0.3 + LATEST_SECONDS) / 0.5)
    assert found == [(index, True) for index in range(8 - waiting)]
    assert caplog.messages == [
        "cam: no sound within 1 s of its pictures: they are scored alone until it comes"
    ]


def test_a_connection_has_a_time_line_of_its_own() -> None:
    gate, heard = SoundGate(SPEC, {0: SEEN}, "cam"), Heard(known=100.0)
    gate.listen(heard)
    gate.begin(7.25)
    assert passed(gate, clip(20)) == [(20, True)]
    assert heard.middles == [3.0]
    gate.listen(None)
    (silent,) = gate.push(clip(21))
    assert isinstance(silent, Clip)
    assert silent.sound is not None
    assert silent.sound.is_heard.tolist() == [0.0]
