"""Plans on a GPU through TensorRT, or TensorRT for RTX."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Device, Scores
from tsm_runtime.backends.cuda.device_clips import DeviceClips
from tsm_runtime.backends.cuda.memory import DeviceError, DeviceMemory
from tsm_runtime.backends.cuda.opening import open_device
from tsm_runtime.backends.cuda.pinned import PinnedFrames
from tsm_runtime.backends.tensorrt.drawer import TensorrtDrawer, open_drawer
from tsm_runtime.backends.tensorrt.library import Heard, import_library, listening
from tsm_runtime.backends.tensorrt.plan import SMALLER, TensorShapes, letting_go, load_plan, tensor_shapes
from tsm_runtime.backends.tensorrt.plan_fit import engine_info, other_model, require_fit
from tsm_runtime.backends.tensorrt.slots import Slot, hold, make_slot
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.bundle.manifest import EngineInfo
from tsm_runtime.clips.pool import FramePool
from tsm_runtime.errors import BackendError, OutOfMemoryError, RunError

_NUM_SLOTS = 2
"""Batches in flight: while the GPU works on one, the next is copied to it."""


@dataclass(eq=False, slots=True)
class SubmittedBatch:
    """A batch that was given to `TensorrtBackend.submit`, to be given to its `result`."""

    scores: Scores
    num_missing: int
    """Clips whose scores are still on the GPU."""
    failure: RunError | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    """What is in flight in one slot: clips [start, start + num_clips) of a batch."""

    slot: Slot
    batch: SubmittedBatch
    start: int
    num_clips: int


class TensorrtBackend:
    """A plan of a bundle on one GPU, in the GPU's primary context, on two streams of its own.

    `infer` waits for the scores of a batch. To keep the GPU busy, submit a batch before asking for the result
    of the one before:

        pending = None
        for frames in batches:
            submitted = backend.submit(frames)
            if pending is not None:
                use(backend.result(pending))
            pending = submitted

    Any thread may call any method; calls are taken one after another. The GPU's memory, and this program's
    hold on the GPU, go when `close` is called, a `with` block ends, or the object is no longer used.

    Args:
        bundle: where the plan is from.
        name: of its file, `model.fp16.plan` for one.
        device: number of the GPU, in CUDA's order.
        memory: another GPU than `device`, or other means to use one; closed with the backend.

    Raises:
        BundleError: the plan is missing, altered, for another GPU or version, does not load or does not fit
            the manifest. Nothing of an altered plan, or of one for elsewhere, is interpreted.
        BackendError: the library, pycuda or the GPU is missing, or the GPU's memory does not suffice.
    """

    device: Device = "gpu"
    in_flight = _NUM_SLOTS

    def __init__(
        self, bundle: Bundle, name: str, *, device: int = 0, memory: DeviceMemory | None = None
    ) -> None:
        data = bundle.model_bytes(name)
        info = self._info = engine_info(bundle, name)
        self._trt = import_library(info.library)
        self._memory, self._index = memory or open_device(device), device
        self._held = ExitStack()
        """Gives back what was taken, the last first."""
        self._close = weakref.finalize(self, _release, self._memory, self._held)
        self._lock = threading.Lock()
        self._in_flight: deque[_Part] = deque()
        try:
            self._open(bundle, name, data, info)
        except BaseException:
            self.close()
            raise
        gpu = self._memory.gpu
        self.name = (
            f"{info.library} {self._trt.__version__} on {gpu.name} ({self._memory.library}),"
            f" {_precision(bundle, name)}"
        )
        notice = other_model(info, gpu)
        self.best_batch = info.batch[1]
        self.frame_pool = FramePool(self._pinned.make)
        self.notices = (f"{bundle.path / name}: {notice}",) if notice else ()
        """What a user should know, a line each."""

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a (N, T, size, size, 3) uint8 batch, and wait for it.

        Raises:
            RunError: the GPU or TensorRT broke off.
        """
        return self.result(self.submit(frames))

    def submit(self, frames: npt.NDArray[np.uint8] | DeviceClips) -> SubmittedBatch:
        """Begin to score a batch; it may be overwritten when this returns, but for one from `frame_pool`.

        That one is copied to the GPU from where it is, and has to stay as it is until `result`. A batch of
        more clips than the plan takes is split, and then this waits until its last parts are under way.

        Args:
            frames: (N, T, size, size, 3) uint8. Those on the GPU are read where they lie, and have to stay as
                they are until `result` too.

        Raises:
            OutOfMemoryError: a smaller batch may fit; batches in flight are lost.
            RunError: the GPU or TensorRT broke off; batches in flight are lost.
        """
        shapes = self._plan.shapes
        _require_frames(frames, shapes)
        batch = SubmittedBatch(_empty_scores(len(frames), shapes), num_missing=len(frames))
        with self._working() as heard:
            for start in range(0, len(frames), shapes.most):
                self._launch(batch, start, frames[start : start + shapes.most], heard)
        return batch

    def result(self, batch: SubmittedBatch) -> Scores:
        """Wait for the scores of a submitted batch; in any order, and more than once.

        Raises:
            RunError: the GPU broke off while this batch was in flight.
        """
        if batch.num_missing and batch.failure is None:
            with self._working():
                self._collect(batch)
        if batch.failure is not None:
            raise batch.failure
        return batch.scores

    def open_drawer(self, bundle: Bundle, *, rebuild: bool = False) -> TensorrtDrawer:
        """Open the bundle's plan of `preprocess.onnx` beside the model, for `tsm_runtime.models.nvdec`.

        It has a stream of its own, and is closed with this backend.

        Args:
            bundle: of this backend.
            rebuild: build the plan here and keep it in the bundle, where there is none or one for elsewhere.

        Raises:
            BundleError: the plan is missing, altered, or not for this machine.
            BackendError: the GPU's memory does not suffice, or the build fails.
        """
        with self._lock:
            if not self._close.alive:
                raise ValueError(f"{self.name}: closed")
            return open_drawer(
                bundle, self._info, self._memory, self._held, rebuild=rebuild, device=self._index
            )

    def close(self) -> None:
        """Wait for batches in flight and release all resources; a second call does nothing."""
        with self._lock:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _open(self, bundle: Bundle, name: str, data: bytes, info: EngineInfo) -> None:
        """Take streams and memory, and load the plan."""
        gpu, what = self._memory.gpu, str(bundle.path / name)
        require_fit(info, version=str(self._trt.__version__), gpu=gpu, what=what)
        shapes = tensor_shapes(bundle.manifest, info)
        try:
            with self._memory.active(), letting_go(), listening(self._trt) as heard:
                self._pinned = hold(
                    self._held, PinnedFrames(self._memory)
                )  # given back after all that reads it
                self._copies = hold(self._held, self._memory.stream())
                self._work = hold(self._held, self._memory.stream())
                self._slots = [make_slot(self._memory, shapes, self._held) for _ in range(_NUM_SLOTS)]
                self._free = list(self._slots)
                self._plan = load_plan(bundle, name, data, info, self._trt, heard, self._work.handle)
                self._held.callback(self._plan.release)
                self._held.callback(self._work.synchronize)
                self._held.callback(self._copies.synchronize)
        except DeviceError as error:
            raise BackendError(f"{gpu.name} cannot take {what}: {_words(error)}") from error

    @contextmanager
    def _working(self) -> Iterator[Heard]:
        """Take the lock and the GPU; what goes wrong ends everything that is in flight."""
        with self._lock:
            if not self._close.alive:
                raise ValueError(f"{self.name}: closed")
            try:
                with self._memory.active(), letting_go(), listening(self._trt) as heard:
                    try:
                        yield heard
                    except BaseException as error:
                        self._abandon(error)
                        raise
            except DeviceError as error:
                kind = OutOfMemoryError if error.out_of_memory else RunError
                raise kind(f"{self.name}: {_words(error)}") from error

    def _launch(
        self, batch: SubmittedBatch, start: int, clips: npt.NDArray[np.uint8] | DeviceClips, heard: Heard
    ) -> None:
        if not self._free:
            self._collect_oldest()
        slot, least, addresses = self._free.pop(), self._plan.shapes.least, None
        if isinstance(clips, DeviceClips):
            num_clips, addresses = slot.place(clips, least, self._memory, self._copies)
        else:
            in_place = self._pinned.holds(clips)
            num_clips = slot.upload(clips, least, self._memory, self._copies, in_place=in_place)
        self._work.wait(slot.uploaded)
        self._plan.enqueue(num_clips, addresses or slot.addresses, self._work.handle, heard)
        slot.download(num_clips, self._memory, self._work)
        self._in_flight.append(_Part(slot, batch, start, len(clips)))

    def _collect(self, batch: SubmittedBatch) -> None:
        if batch.num_missing and not any(part.batch is batch for part in self._in_flight):
            raise ValueError(f"{self.name}: this batch was submitted to another backend")
        while batch.num_missing:
            self._collect_oldest()

    def _collect_oldest(self) -> None:
        part = self._in_flight[0]
        outputs = part.slot.fetch(part.num_clips)
        place = slice(part.start, part.start + part.num_clips)
        for whole, fetched in zip(part.batch.scores, Scores.of(outputs), strict=True):
            if whole is not None and fetched is not None:
                whole[place] = fetched
        part.batch.num_missing -= part.num_clips
        self._free.append(self._in_flight.popleft().slot)

    def _abandon(self, error: BaseException) -> None:
        """Let the GPU come to rest, so that no slot is in use, and mark what is lost."""
        for stream in (self._copies, self._work):
            with suppress(DeviceError):  # the first error is reported
                stream.synchronize()
        for part in self._in_flight:
            part.batch.failure = RunError(f"{self.name}: lost when another batch broke off ({error})")
        self._in_flight.clear()
        self._free = list(self._slots)


def _words(error: DeviceError) -> str:
    return f"{error}; {SMALLER}" if error.out_of_memory else str(error)


def _precision(bundle: Bundle, name: str) -> str:
    return bundle.manifest.files[name].precision


def _release(memory: DeviceMemory, held: ExitStack) -> None:
    """Release what is held; ignore errors of a GPU that has failed."""
    with suppress(DeviceError), memory.active():
        held.close()
    with suppress(DeviceError):
        memory.close()


def _require_frames(frames: npt.NDArray[np.uint8] | DeviceClips, shapes: TensorShapes) -> None:
    if frames.dtype != np.uint8 or frames.shape[1:] != shapes.frames:
        expected = ", ".join(map(str, shapes.frames))
        raise ValueError(f"expected uint8 (N, {expected}), got {frames.dtype} {frames.shape}")


def _empty_scores(num_clips: int, shapes: TensorShapes) -> Scores:
    return Scores.of(
        {name: np.empty((num_clips, *shape), np.float32) for name, shape in shapes.outputs.items()}
    )
