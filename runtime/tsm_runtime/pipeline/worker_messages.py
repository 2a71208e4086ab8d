"""Messages between a run and a process that decodes for it; pixels pass through shared memory."""

from __future__ import annotations

import msgspec

from tsm_runtime.clips.options import ClipOptions
from tsm_runtime.clips.spec import ClipSpec

NUM_SLOTS = 4
"""Maximum number of batches of a spec in transit, including the one being filled."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A video to decode; its name in the encoding of the file system."""

    path: bytes
    specs: tuple[ClipSpec, ...]
    options: ClipOptions


class Batch(msgspec.Struct, frozen=True, kw_only=True, tag="batch"):
    """A batch of clips: number of its spec, slot and first byte in the shared memory, breaks so far."""

    spec: int
    slot: int
    start: int
    indices: list[int]
    breaks: list[int]
    claimed_seconds: float | None


class WorkerEnd(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """Data of a completely read video; gaps and breaks by spec."""

    duration_seconds: float
    num_frames: int
    discontinuities: list[float]
    failure: str | None
    corrupt_frames: int
    claimed_seconds: float | None
    assumed_rate: float | None
    gaps: list[list[tuple[float, float]]]
    breaks: list[list[int]]
    notices: list[str]


class Broken(msgspec.Struct, frozen=True, kw_only=True, tag="broken"):
    """Reason why a video cannot be read."""

    message: str


FromWorker = Batch | WorkerEnd | Broken


def batch_shape(spec: ClipSpec, options: ClipOptions) -> tuple[int, ...]:
    """Return the shape of a full batch, of a video (N, T, size, size, 3)."""
    return (options.batch_size, *spec.clip_shape)
