"""A process that decodes videos for another one: `python -m tsm_runtime.pipeline.worker IN OUT MEMORY LIMIT`.

IN and OUT are descriptors of open pipes, MEMORY of an open file that both map, LIMIT mebibytes or empty.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from tsm_runtime.clips.joined import clips_of, open_reader
from tsm_runtime.clips.pool import FramePool
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.pipeline.worker_messages import NUM_SLOTS, Batch, Broken, Job, WorkerEnd, batch_shape


class _Slots:
    """The shared memory of one job: NUM_SLOTS batches for each spec."""

    def __init__(self, job: Job, memory: mmap.mmap, acknowledged: Connection) -> None:
        self._acknowledged = acknowledged
        self._arrays: list[tuple[npt.NDArray[np.uint8], int]] = []
        self._free: dict[ClipSpec, list[int]] = {}
        self._spec_of: list[ClipSpec] = []
        start = 0
        for spec in job.specs:
            shape = batch_shape(spec, job.options)
            size = int(np.prod(shape))
            self._free[spec] = list(range(len(self._arrays), len(self._arrays) + NUM_SLOTS))
            for _ in range(NUM_SLOTS):
                self._arrays.append((np.frombuffer(memory, np.uint8, size, start).reshape(shape), start))
                self._spec_of.append(spec)
                start += size

    def take(self, spec: ClipSpec) -> npt.NDArray[np.uint8]:
        """Wait for a free array and return it."""
        while not self._free[spec]:
            self.receive()
        return self._arrays[self._free[spec].pop()][0]

    def receive(self) -> None:
        """Wait until a slot is free again."""
        slot = msgspec.msgpack.decode(self._acknowledged.recv_bytes(), type=int)
        self._free[self._spec_of[slot]].append(slot)

    def give(self, array: npt.NDArray[np.uint8]) -> None:
        """Take back an array that was not sent."""
        slot, _ = self.find(array)
        self._free[self._spec_of[slot]].append(slot)

    def find(self, array: npt.NDArray[np.uint8]) -> tuple[int, int]:
        """Return slot and first byte of an array."""
        return next((n, start) for n, (own, start) in enumerate(self._arrays) if own is array)

    @property
    def num_free(self) -> int:
        return sum(map(len, self._free.values()))

    def wait_for_all(self) -> None:
        """Wait until all slots are free, so that no message of this job arrives in the next one."""
        while self.num_free < len(self._arrays):
            self.receive()


class _SlotPool(FramePool):
    """The slots of one spec as the memory of a clip builder."""

    def __init__(self, slots: _Slots, spec: ClipSpec) -> None:
        super().__init__()
        self._slots, self._spec = slots, spec

    def take(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        return self._slots.take(self._spec)

    def give(self, array: npt.NDArray[np.uint8]) -> None:
        self._slots.give(array)


def _decode(job: Job, memory: mmap.mmap, source: Connection, sink: Connection) -> None:
    slots = _Slots(job, memory, source)
    options = job.options
    path = Path(os.fsdecode(job.path))
    try:
        sound, rate = job.specs[0].sound, options.rate
        with open_reader(path, sound, rate=rate, allow_playlists=options.allow_playlists) as reader:
            pools = {spec: _SlotPool(slots, spec) for spec in job.specs}
            clips = clips_of(reader, job.specs, options=options, memory=pools)
            for batch in clips:
                assert batch.memory is not None
                slot, start = slots.find(batch.memory)
                message = Batch(
                    spec=job.specs.index(batch.spec),
                    slot=slot,
                    start=start,
                    indices=batch.indices.tolist(),
                    breaks=sorted(clips.builders[batch.spec].breaks),
                    claimed_seconds=reader.claimed_seconds,
                )
                sink.send_bytes(msgspec.msgpack.encode(message))
            last: WorkerEnd | Broken = _end(clips)
    except (UsageError, VideoError) as error:
        last = Broken(message=str(error))
    except MemoryError:
        last = Broken(message=f"{path}: decoding takes more memory than allowed (--memory-limit)")
    slots.wait_for_all()
    sink.send_bytes(msgspec.msgpack.encode(last))


def _end(clips: ClipStream) -> WorkerEnd:
    reader, builders = clips.reader, [clips.builders[spec] for spec in clips.specs]
    return WorkerEnd(
        duration_seconds=clips.duration_seconds,
        num_frames=clips.num_frames,
        discontinuities=clips.discontinuities,
        failure=reader.failure,
        corrupt_frames=reader.corrupt_frames,
        claimed_seconds=reader.claimed_seconds,
        assumed_rate=reader.assumed_rate,
        gaps=[list(builder.gaps) for builder in builders],
        breaks=[sorted(builder.breaks) for builder in builders],
        notices=list(reader.notices),
    )


def _limit_memory(mebibytes: str) -> None:
    """Limit the writable memory of this process, without its shared memory."""
    if mebibytes:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (int(mebibytes) << 20, int(mebibytes) << 20))
    if hasattr(signal, "SIGXFSZ"):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Decode until the other process closes its pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process handles Ctrl-C
    source = Connection(int(sys.argv[1]), writable=False)
    sink = Connection(int(sys.argv[2]), readable=False)
    _limit_memory(sys.argv[4])
    sink.send_bytes(b"ready")
    memory: mmap.mmap | None = None
    try:
        while True:
            job = msgspec.msgpack.decode(source.recv_bytes(), type=Job)
            size = os.fstat(int(sys.argv[3])).st_size
            if memory is None or len(memory) < size:
                memory = mmap.mmap(int(sys.argv[3]), size)
            _decode(job, memory, source, sink)
    except (EOFError, BrokenPipeError):
        return


if __name__ == "__main__":
    main()
