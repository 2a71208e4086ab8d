"""Placement of one recording on the time line of another, if it is certain."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from tsm_runtime.audio.reader import Sound, read_sound
from tsm_runtime.captures.matching.consistency import agreement
from tsm_runtime.captures.matching.correlation import Correlator, Peak
from tsm_runtime.captures.matching.features import RATE, Features, picture_features, sound_features
from tsm_runtime.captures.matching.gcc_phat import gcc_phat
from tsm_runtime.errors import VideoError

CERTAIN = 0.5
"""Least confidence of an offset that is returned as found."""

_EVIDENCE = {"sound": 5.0, "picture": 5.3}
"""Evidence of confidence 0.5: geometric mean of prominence and agreement (see benchmarks/offsets.py)."""
_EVIDENCE_WIDTH = 0.6
_LEAST_PROMINENCE = 1.5
_LEAST_AGREEMENT = 4.0

_WHOLE_SECONDS = 150.0
"""Longer videos are looked for piece by piece, so that a drift does not blur their agreement."""
_PIECE_SECONDS = 60.0
_MAX_PIECES = 24
_PIECES_TOLERANCE_SECONDS = 0.1

_PHAT_RATE = 8000
_PHAT_VIDEO_SECONDS = 60.0
_PHAT_REFERENCE_SECONDS = 600.0
_PHAT_STRENGTH = 25.0
_PHAT_RATIO = 3.0


class Recording:
    """A video and its features, each computed when it is first needed.

    Args:
        path: of the video.
        track: audio track, see `tsm_runtime.audio.track.choose_track`.
    """

    def __init__(self, path: Path, track: str = "") -> None:
        self.path = path
        self.track = track
        self.warnings: list[str] = []

    def sound(self) -> Sound | None:
        """Return its sound, or None where there is none."""
        try:
            return read_sound(self.path, track=self.track)
        except VideoError as error:
            self.warnings.append(str(error))
            return None

    @cached_property
    def sound_features(self) -> Features | None:
        """Features of its sound; None: it has none, or it is silent."""
        sound = self.sound()
        if sound is None or sound.is_silent:
            return None
        self.warnings += sound.warnings
        return sound_features(sound)

    @cached_property
    def picture_features(self) -> tuple[Features, Features] | None:
        """Features of its pictures, see `picture_features`."""
        return picture_features(self.path)

    @property
    def is_readable(self) -> bool:
        """Whether it has sound or pictures to compare."""
        return self.sound_features is not None or self.picture_features is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a video lies: time of the reference = offset_seconds + (1 + drift) * time of the video.

    Args:
        offset_seconds: of the video's first picture.
        drift: by how much faster the reference's clock runs.
        confidence: 0 to 1; below `CERTAIN` the offset is a guess, not to be used.
        overlap_seconds: of what both recorded.
        by: what was compared: "sound", "waveform" or "picture".
    """

    offset_seconds: float
    drift: float
    confidence: float
    overlap_seconds: float
    by: str

    @property
    def is_certain(self) -> bool:
        """Whether the offset may be used."""
        return self.confidence >= CERTAIN


def match(reference: Recording, video: Recording) -> Placement | None:
    """Find the placement of a video on the time line of a reference.

    Sound is compared by onsets in mel bands, then by waveforms. Pictures are compared only if one of the two
    has no sound: two sounds without agreement are stronger evidence than pictures.

    Returns:
        The best placement, which may be uncertain; None where there is nothing to compare.
    """
    best: Placement | None = None
    for placement in _attempts(reference, video):
        if placement.is_certain:
            return placement
        if best is None or placement.confidence > best.confidence:
            best = placement
    return best


def _attempts(reference: Recording, video: Recording) -> Iterator[Placement]:
    if reference.sound_features is not None and video.sound_features is not None:
        yield from _found([reference.sound_features], [video.sound_features], "sound")
        yield from _by_waveform(reference, video)
    elif reference.picture_features is not None and video.picture_features is not None:
        for kinds in ((0, 1), (0,), (1,)):
            yield from _found(
                [reference.picture_features[kind] for kind in kinds],
                [video.picture_features[kind] for kind in kinds],
                "picture",
            )


def _found(reference: Sequence[Features], video: Sequence[Features], by: str) -> Iterator[Placement]:
    peak = _peak(reference, video, by)
    if peak is not None:
        yield Placement(
            offset_seconds=peak.offset_seconds,
            drift=peak.drift,
            confidence=_confidence(peak.prominence, agreement(reference, video, peak), by),
            overlap_seconds=peak.overlap_seconds,
            by=by,
        )


def _confidence(prominence: float, agreed: float, by: str) -> float:
    """Return the confidence of a peak, which must stand out and agree over most seconds."""
    evidence = math.sqrt(max(prominence, 0.0) * max(agreed, 0.0))
    confidence = _logistic((evidence - _EVIDENCE[by]) / _EVIDENCE_WIDTH)
    is_enough = prominence >= _LEAST_PROMINENCE and agreed >= _LEAST_AGREEMENT
    return confidence if is_enough else min(confidence, 0.9 * CERTAIN)


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(-50.0, value)))


def _peak(reference: Sequence[Features], video: Sequence[Features], by: str) -> Peak | None:
    num_rows = len(video[0].rows)
    if num_rows <= _WHOLE_SECONDS * RATE:
        return Correlator(reference, num_rows).peak(video)
    return _Pieces(Correlator(reference, round(_PIECE_SECONDS * RATE)), _EVIDENCE[by]).peak(video)


# --- long videos ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Pieces:
    """Looks for the pieces of a long video and draws a line through their places.

    Args:
        correlator: of the reference.
        needed: prominence of a piece that counts as found.
    """

    correlator: Correlator
    needed: float
    _found: list[tuple[float, Peak]] = field(default_factory=list)

    def peak(self, video: Sequence[Features]) -> Peak | None:
        """Return the peak of the whole video; its strengths are those of the best piece."""
        best: Peak | None = None
        for begin in _spread_out(len(video[0].rows), round(_PIECE_SECONDS * RATE)):
            rows = slice(begin, begin + round(_PIECE_SECONDS * RATE))
            piece = [Features(rows=each.rows[rows], active=each.active[rows]) for each in video]
            peak = self.correlator.peak(piece)
            if peak is None:
                continue
            if best is None or peak.prominence > best.prominence:
                best = peak
            if peak.prominence >= self.needed:
                self._found.append((begin / RATE, peak))
        if best is None:
            return None
        return self._line(best) if self._found else best

    def _line(self, best: Peak) -> Peak:
        """Fit offset and drift to the pieces' places; pieces that disagree take away the prominence."""
        middles = np.array([begin + _PIECE_SECONDS / 2 for begin, _ in self._found])
        places = np.array(
            [peak.offset_seconds + (1 + peak.drift) * _PIECE_SECONDS / 2 for _, peak in self._found]
        )
        if len(self._found) == 1:
            drift = self._found[0][1].drift
            offset = float(places[0] - (1 + drift) * middles[0])
            agreeing = 1
        else:
            drift, offset, agreeing = _robust_line(middles, places - middles)
        overlap = sum(peak.overlap_seconds for _, peak in self._found)
        is_one_line = agreeing > len(self._found) / 2
        second = best.second if is_one_line else best.strength
        return Peak(
            offset_seconds=offset,
            drift=drift,
            strength=best.strength,
            second=second,
            overlap_seconds=overlap,
        )


def _robust_line(
    times: np.ndarray[tuple[int], np.dtype[np.float64]], lags: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> tuple[float, float, int]:
    """Return slope and intercept of the line that most points lie near, and how many do."""
    best: np.ndarray[tuple[int], np.dtype[np.bool_]] = np.zeros(len(times), bool)
    for i in range(len(times)):
        for j in range(i + 1, len(times)):
            slope = (lags[j] - lags[i]) / (times[j] - times[i])
            near = np.abs(lags - lags[i] - slope * (times - times[i])) < _PIECES_TOLERANCE_SECONDS
            if abs(slope) < 0.002 and near.sum() > best.sum():
                best = near
    if best.sum() < 2:
        return 0.0, float(lags[0]), 1
    slope, intercept = np.polyfit(times[best], lags[best], 1)
    return float(slope), float(intercept), int(best.sum())


def _spread_out(num_rows: int, piece: int) -> list[int]:
    """Return where pieces begin, over the whole length."""
    count = min(_MAX_PIECES, max(1, num_rows // piece))
    return [round(begin) for begin in np.linspace(0, num_rows - piece, count)]


# --- waveforms ------------------------------------------------------------------------------------


def _by_waveform(reference: Recording, video: Recording) -> Iterator[Placement]:
    longest = (_PHAT_REFERENCE_SECONDS, _PHAT_VIDEO_SECONDS)
    of_both = []
    for recording, seconds in zip((reference, video), longest, strict=True):
        sound = read_sound(recording.path, track=recording.track, rate=_PHAT_RATE)
        if sound is None:
            return
        of_both.append(sound.samples[0, : round(seconds * _PHAT_RATE)])
    peak = gcc_phat(of_both[0], of_both[1], _PHAT_RATE)
    if peak is None:
        return
    margin = min(peak.strength / _PHAT_STRENGTH, peak.strength / (peak.second + 1e-9) / _PHAT_RATIO)
    yield Placement(
        offset_seconds=peak.offset_seconds,
        drift=peak.drift,
        confidence=_logistic(6 * (margin - 1)),
        overlap_seconds=peak.overlap_seconds,
        by="waveform",
    )
