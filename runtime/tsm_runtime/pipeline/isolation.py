"""Decoding in worker processes with limits: a crash, a hang or a bomb in a codec costs one video.

A worker decodes and cuts one video after another, and returns the clips through shared memory. `worker.py` is
the code of the worker.
"""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from tsm_runtime.clips.builder import ClipBatch
from tsm_runtime.clips.joined import UnreadInput
from tsm_runtime.clips.options import ClipOptions
from tsm_runtime.clips.pool import FramePool
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.closing import Closing
from tsm_runtime.errors import RunError, UsageError, VideoError
from tsm_runtime.pipeline.worker_messages import (
    NUM_SLOTS,
    Batch,
    Broken,
    FromWorker,
    Job,
    WorkerEnd,
    batch_shape,
)

_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits for the decoding of one video.

    Args:
        memory_mebibytes: limit of the worker's own memory; None: no limit.
        seconds: limit of the time spent waiting for clips of the video, in total; None: no limit.

    Raises:
        UsageError: a limit is too low to be kept.
    """

    memory_mebibytes: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.memory_mebibytes is not None and self.memory_mebibytes < 128:
            raise UsageError(f"memory-limit {self.memory_mebibytes}: expected 128 MiB or more")
        if self.seconds is not None and self.seconds <= 0:
            raise UsageError(f"time-limit {self.seconds:g}: expected seconds, more than 0")


class Isolation(Closing):
    """Worker processes, started on demand and reused for further videos; must be closed.

    Args:
        limits: limits for each video.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._all: list[_Worker] = []

    def take(self) -> _Worker:
        """Return a free worker."""
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.is_alive:
                    return worker
            worker = _Worker(self.limits)
            self._all = [other for other in self._all if other.is_alive] + [worker]
            return worker

    def give(self, worker: _Worker) -> None:
        """Take back a worker that has finished its video; others are ended."""
        with self._lock:
            self._idle.append(worker)

    def close(self) -> None:
        """End all workers."""
        for worker in self._all:
            worker.kill()


class _Worker:
    """A process that decodes, and the memory that it shares with this one."""

    def __init__(self, limits: Limits) -> None:
        ours, theirs = os.pipe(), os.pipe()  # to the worker, from the worker
        self._file = _anonymous_file()
        numbers = (ours[0], theirs[1], self._file)
        memory = "" if limits.memory_mebibytes is None else str(limits.memory_mebibytes)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tsm_runtime.pipeline.worker", *map(str, numbers), memory],
                pass_fds=numbers,
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            raise RunError(f"no process for --isolate: {error.strerror}") from error
        os.close(ours[0])
        os.close(theirs[1])
        self._to = Connection(ours[1], readable=False)
        self._from = Connection(theirs[0], writable=False)
        self._memory: mmap.mmap | None = None
        self._is_ready = False

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int:
        return self._process.wait()

    def begin(self, job: Job) -> None:
        """Start a video in the worker."""
        size = sum(int(np.prod(batch_shape(spec, job.options))) for spec in job.specs) * NUM_SLOTS
        if self._memory is None or len(self._memory) < size:
            os.ftruncate(self._file, size)
            self._memory = mmap.mmap(self._file, size, prot=mmap.PROT_READ)
        if not self._is_ready:  # its start does not count as time of a video
            self._from.recv_bytes()
            self._is_ready = True
        self.send(msgspec.msgpack.encode(job))

    def send(self, data: bytes) -> None:
        self._to.send_bytes(data)

    def receive(self, seconds: float) -> FromWorker | None:
        """Return the next message, or None after the timeout.

        Raises:
            EOFError: the process has ended.
        """
        if not self._from.poll(seconds):
            return None
        message: FromWorker = msgspec.msgpack.decode(self._from.recv_bytes(), type=Batch | WorkerEnd | Broken)
        return message

    def copy(self, start: int, out: npt.NDArray[np.uint8]) -> None:
        """Copy pixels out of the shared memory."""
        assert self._memory is not None
        out[...] = np.frombuffer(self._memory, np.uint8, out.size, start).reshape(out.shape)

    def kill(self) -> None:
        """End the process; further calls do nothing."""
        if self.is_alive:
            self._process.kill()
        self._process.wait()
        if not self._to.closed:
            self._to.close()
            self._from.close()
            os.close(self._file)


def _anonymous_file() -> int:
    """Return the descriptor of an anonymous file in memory; on systems without these, on disk."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("tsm-clips")
    number, name = tempfile.mkstemp()
    Path(name).unlink()
    return number


class IsolatedClips(ClipStream):
    """Clips of a video that a worker decodes, equal to those of a `ClipStream`.

    Raises:
        VideoError: as for `VideoReader` and `ClipStream`; or the worker crashed or exceeded a limit.
    """

    def __init__(
        self,
        path: Path,
        specs: Sequence[ClipSpec],
        options: ClipOptions,
        isolation: Isolation,
        *,
        cancelled: threading.Event,
        memory: Mapping[ClipSpec, FramePool],
    ) -> None:
        kind = "video" if specs[0].sound is None else "audio"
        self._remote = UnreadInput(path, stream_kind=kind)
        super().__init__(self._remote, specs, options, cancelled=cancelled)  # type: ignore[arg-type]
        self._isolation = isolation
        self._pools = memory

    def __iter__(self) -> Iterator[ClipBatch]:
        worker = self._isolation.take()
        is_done = False
        try:
            worker.begin(Job(path=os.fsencode(self.reader.path), specs=self.specs, options=self.options))
            for message in self._messages(worker):
                if isinstance(message, Batch):
                    yield self._received(worker, message)
                    worker.send(msgspec.msgpack.encode(message.slot))
                    continue
                is_done = True
                if isinstance(message, Broken):
                    raise VideoError(message.message)
                self._take_end(message)
        except (BrokenPipeError, ConnectionResetError, EOFError) as error:
            raise VideoError(f"{self.reader.path}: {self._why_ended(worker)}") from error
        finally:
            if is_done:
                self._isolation.give(worker)
            else:
                worker.kill()

    def _messages(self, worker: _Worker) -> Iterator[FromWorker]:
        """Yield messages until the last one of the video."""
        waited, limit = 0.0, self._isolation.limits.seconds
        while True:
            begun = time.monotonic()
            message = worker.receive(_POLL_SECONDS)
            waited += time.monotonic() - begun
            if self.cancelled.is_set():
                return
            if message is not None:
                yield message
                if not isinstance(message, Batch):
                    return
            if limit is not None and waited > limit:
                raise VideoError(f"{self.reader.path}: decoding took longer than {limit:g} s (--time-limit)")

    def _received(self, worker: _Worker, message: Batch) -> ClipBatch:
        spec = self.specs[message.spec]
        memory = self._pools[spec].take(batch_shape(spec, self.options))
        frames = memory[: len(message.indices)]
        worker.copy(message.start, frames)
        self._remote.claimed_seconds = message.claimed_seconds
        self.builders[spec].breaks.update(message.breaks)
        return ClipBatch(np.array(message.indices, np.int64), frames, spec, memory)

    def _take_end(self, end: WorkerEnd) -> None:
        self.duration_seconds, self.num_frames = end.duration_seconds, end.num_frames
        self.discontinuities = list(end.discontinuities)
        self._remote.failure, self._remote.corrupt_frames = end.failure, end.corrupt_frames
        self._remote.claimed_seconds, self._remote.assumed_rate = end.claimed_seconds, end.assumed_rate
        self._remote.notices = tuple(end.notices)
        for spec, gaps, breaks in zip(self.specs, end.gaps, end.breaks, strict=True):
            self.builders[spec].gaps[:] = gaps
            self.builders[spec].breaks.update(breaks)

    def _why_ended(self, worker: _Worker) -> str:
        code = worker.exit_code
        if code == -signal.SIGKILL:
            return "its decoder was killed, probably because memory ran out"
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"its decoder crashed ({name})"
