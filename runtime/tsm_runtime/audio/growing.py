"""Log-mel frames of a track that arrives piece by piece, with bounded memory where old frames may go."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tsm_runtime.audio.mel import BLOCK_FRAMES, LogMel, as_log, block_magnitudes, frame_samples
from tsm_runtime.audio.patches import SoundTrack
from tsm_runtime.audio.placing import Placing
from tsm_runtime.audio.reader import peak
from tsm_runtime.audio.spec import SAMPLE_RATE, Samples, SoundSpec

_FIRST_CAPACITY = 1024


class GrowingTrack:
    """Log-mel frames up to now. The values are those of the whole track, to the last bit.

    Args:
        spec: of the frames.
        placing: where the pieces lie; keeps what was recorded.
    """

    def __init__(self, spec: SoundSpec, placing: Placing) -> None:
        self.spec = spec
        self.peak = 0.0
        """Largest magnitude of a sample so far."""
        self._placing = placing
        self._before, self._window, self._hop = frame_samples(spec.mel, SAMPLE_RATE)
        self._samples: Samples = np.zeros((spec.channels, self._before), np.float32)
        """From the begin of the next block's first window on."""
        self._num_frames = 0  # computed
        self._first = 0  # number of the first frame that is kept
        self._wanted = 0  # frames before this one may go
        self._frames = np.zeros((spec.channels, _FIRST_CAPACITY, spec.num_bands), np.float16)
        self._recorded = np.zeros(_FIRST_CAPACITY, np.bool_)

    @property
    def known_frames(self) -> int:
        """Number of the first frame that is not known yet."""
        return self._num_frames

    @property
    def end_frame(self) -> int:
        """Number of frames up to the end of the track, to the nearest hop."""
        return round(self._placing.end / self._hop)

    def add(self, begin: int, samples: Samples) -> None:
        """Take the samples of a piece, see `Placing.place`."""
        if samples.shape[1]:
            self.peak = max(self.peak, peak(samples))
            self._append(begin, samples)
        step = BLOCK_FRAMES * self._hop
        count = (self._samples.shape[1] - self._window + self._hop) // step
        if count > 0:
            self._compute(count * BLOCK_FRAMES)

    def finish(self) -> None:
        """Compute the last frames, as if silence followed."""
        left = self._placing.end // self._hop - self._num_frames
        if left <= 0:
            return
        whole = -(-left // BLOCK_FRAMES) * BLOCK_FRAMES
        missing = (whole - 1) * self._hop + self._window - self._samples.shape[1]
        self._samples = np.pad(self._samples, ((0, 0), (0, max(0, missing))))
        self._compute(whole, left)

    def forget(self, before_frame: int) -> None:
        """Allow frames before this one to be dropped."""
        self._wanted = max(self._wanted, before_frame)
        spans, hop = self._placing.spans, self.spec.hop_seconds
        while len(spans) > 1 and spans[0][1] < self._wanted * hop:
            del spans[0]

    def track(self) -> SoundTrack:
        """Return what is kept, as a view that the next `add` may change."""
        count = self._num_frames - self._first
        return SoundTrack(
            frames=self._frames[:, :count],
            recorded=self._recorded[:count],
            spec=self.spec,
            first=self._first,
        )

    def _append(self, begin: int, samples: Samples) -> None:
        """Append samples; zeros fill a gap, whole blocks of which are computed on the way."""
        at = self._num_frames * self._hop - self._before + self._samples.shape[1]
        gap = begin - at
        step = BLOCK_FRAMES * self._hop
        while gap > 0:
            part = min(gap, 256 * step)
            gap -= part
            self._samples = np.pad(self._samples, ((0, 0), (0, part)))
            if gap:
                count = (self._samples.shape[1] - self._window + self._hop) // step
                self._compute(max(0, count) * BLOCK_FRAMES)
        self._samples = np.concatenate([self._samples, samples], axis=1)

    def _compute(self, num_frames: int, kept: int | None = None) -> None:
        """Compute a multiple of BLOCK_FRAMES frames, and keep the first of them."""
        if not num_frames:
            return
        samples = self._samples[:, : (num_frames - 1) * self._hop + self._window]
        log_mels = [self._log_mel(np.ascontiguousarray(samples.mean(axis=0)))]
        if self.spec.channels == 2:
            left, right = (self._log_mel(channel) for channel in samples)
            log_mels.append(left - right)
        count = num_frames if kept is None else kept
        self._store(np.stack(log_mels)[:, :count].astype(np.float16))
        self._samples = self._samples[:, num_frames * self._hop :].copy()

    def _log_mel(self, samples: Samples) -> LogMel:
        return as_log(block_magnitudes(samples, self.spec.mel, SAMPLE_RATE), self.spec.mel)

    def _store(self, frames: npt.NDArray[np.float16]) -> None:
        count = frames.shape[1]
        self._make_room(count)
        at = self._num_frames - self._first
        self._frames[:, at : at + count] = frames
        self._recorded[at : at + count] = self._were_recorded(self._num_frames, count)
        self._num_frames += count

    def _make_room(self, count: int) -> None:
        held = self._num_frames - self._first
        if held + count <= len(self._recorded):
            return
        dropped = min(max(0, self._wanted - self._first), held)
        left = held - dropped
        capacity = len(self._recorded)
        while 2 * (left + count) > capacity:
            capacity *= 2
        frames = np.zeros((self.spec.channels, capacity, self.spec.num_bands), np.float16)
        recorded = np.zeros(capacity, np.bool_)
        frames[:, :left] = self._frames[:, dropped:held]
        recorded[:left] = self._recorded[dropped:held]
        self._frames, self._recorded = frames, recorded
        self._first += dropped

    def _were_recorded(self, first: int, count: int) -> npt.NDArray[np.bool_]:
        found = np.zeros(count, np.bool_)
        hop = self.spec.hop_seconds
        for begin, end in reversed(self._placing.spans):
            start, stop = round(begin / hop) - first, round(end / hop) - first
            found[max(0, start) : max(0, stop)] = True
            if start <= 0:
                break
        return found
