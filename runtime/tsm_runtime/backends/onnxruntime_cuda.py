"""ONNX files on a GPU through onnxruntime's CUDA provider."""

from __future__ import annotations

import contextlib
import io
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import (
    Device,
    Scores,
    SubmittingBackend,
    is_out_of_memory,
    one_line,
    run_failure,
)
from tsm_runtime.backends.cuda.device_clips import DeviceClips
from tsm_runtime.backends.cuda.driver import PrimaryContext
from tsm_runtime.backends.cuda.gpu import find_gpu
from tsm_runtime.backends.cuda.pinned import DriverPinning, PinnedFrames
from tsm_runtime.backends.onnxruntime import check_session, session_options
from tsm_runtime.backends.onnxruntime_drawer import OnnxruntimeDrawer
from tsm_runtime.backends.onnxruntime_module import has_both_packages, import_onnxruntime, repair_command
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.clips.pool import FramePool
from tsm_runtime.errors import BackendError, BundleError
from tsm_runtime.video.preprocess import PREPROCESS_MODEL

CUDA_PROVIDER = "CUDAExecutionProvider"

_NUM_SLOTS = 2
"""Batches in flight: while the GPU works on one, the next is copied to it."""

_INSTALL = "pip uninstall -y onnxruntime, then pip install 'tsm-tal[gpu]' (they share a folder)"
_LIBRARIES = "pip install 'onnxruntime-gpu[cuda,cudnn]' brings CUDA's libraries; nvidia-smi shows the driver"


@dataclass(eq=False, slots=True)
class _Slot:
    """Memory on the GPU for one batch, and what is bound to it. The memory is that of the last shape."""

    binding: Any
    frames: Any = None
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class SubmittedBatch:
    """A batch that was given to `OnnxruntimeCudaBackend.submit`, to be given to its `result`."""

    num_clips: int
    scores: Future[Scores]


class OnnxruntimeCudaBackend(SubmittingBackend):
    """A session over one ONNX model of a bundle on one GPU.

    The copy of a batch to the GPU happens in `submit`, the model runs in a thread: so the copy of one batch
    and the work on the one before go on at a time. Channels come last (`prefer_nhwc`), which convolutions in
    FP16 on tensor cores want.

    Args:
        bundle: bundle of the model and its labels.
        name: which of the bundle's models, `model.fp16.onnx` for one.
        device: number of the GPU, in CUDA's order.
        tf32: compute fp32 with ten bits of mantissa, which is faster and not fp32.

    Raises:
        BackendError: onnxruntime is not installed or has no CUDA here, which it does not report.
        BundleError: the model is missing, altered, not loadable, or does not fit the manifest.
    """

    device: Device = "gpu"
    in_flight = _NUM_SLOTS
    best_batch = 16

    def __init__(
        self, bundle: Bundle, name: str = "model.fp16.onnx", *, device: int = 0, tf32: bool = False
    ) -> None:
        self._ort = import_onnxruntime()
        self._index = device
        self._session = _open(self._ort, bundle, name, device, tf32=tf32)
        check_session(self._session, bundle.manifest, f"{bundle.path}: {name}")
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._slots = [_Slot(self._session.io_binding()) for _ in range(_NUM_SLOTS)]
        self._in_use: list[Future[Scores] | None] = [None] * _NUM_SLOTS
        self._next = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="onnxruntime-cuda")
        self._held = ExitStack()
        self.frame_pool = _pinned_pool(device, self._held)
        precision = f"{bundle.manifest.files[name].precision}{' with TF32' if tf32 else ''}"
        self.name = f"onnxruntime {self._ort.__version__} CUDA on {find_gpu(device).name}, {precision}"

    def submit(self, frames: npt.NDArray[np.uint8]) -> SubmittedBatch:
        """Begin to score a batch; it may be overwritten when this returns.

        Raises:
            OutOfMemoryError: a smaller batch may fit.
            RunError: onnxruntime failed.
        """
        if self._session is None:
            raise ValueError(f"{self.name}: closed")
        number, self._next = self._next, (self._next + 1) % _NUM_SLOTS
        in_use = self._in_use[number]
        if in_use is not None:
            in_use.exception()  # waits; `result` raises the error
        try:
            self._upload(self._slots[number], frames)
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            raise run_failure(self.name, len(frames), error) from error
        scores = self._thread.submit(self._run, self._slots[number])
        self._in_use[number] = scores
        return SubmittedBatch(len(frames), scores)

    def result(self, batch: SubmittedBatch) -> Scores:
        """Wait for the scores of a submitted batch; in any order, and more than once.

        Raises:
            OutOfMemoryError: a smaller batch may fit.
            RunError: onnxruntime failed.
        """
        try:
            return batch.scores.result()
        except Exception as error:  # as above
            raise run_failure(self.name, batch.num_clips, error) from error

    def open_drawer(self, bundle: Bundle, *, rebuild: bool = False) -> OnnxruntimeDrawer:
        """Open the bundle's `preprocess.onnx` beside the model, for `tsm_runtime.models.nvdec`.

        Args:
            bundle: of this backend.
            rebuild: as for other backends; nothing is built here.

        Raises:
            BundleError: the file is missing, altered, or not loadable.
        """
        return OnnxruntimeDrawer(
            _open(self._ort, bundle, PREPROCESS_MODEL, self._index), self._index, self.name
        )

    def close(self) -> None:
        """Wait for batches in flight and release the GPU's memory; a second call does nothing."""
        self._thread.shutdown()
        self._slots.clear()
        self._session = None
        self._held.close()

    def _upload(self, slot: _Slot, frames: npt.NDArray[np.uint8] | DeviceClips) -> None:
        if isinstance(frames, DeviceClips):  # they are there
            slot.frames, slot.shape = None, ()
            slot.binding.bind_input("frames", "cuda", self._index, np.uint8, frames.shape, frames.address)
            return
        if slot.shape != frames.shape:
            slot.frames, slot.shape = None, ()  # before more is taken
            slot.frames = self._ort.OrtValue.ortvalue_from_shape_and_type(
                list(frames.shape), np.uint8, "cuda", self._index
            )
            slot.shape = frames.shape
            slot.binding.bind_ortvalue_input("frames", slot.frames)
        slot.frames.update_inplace(np.ascontiguousarray(frames))

    def _run(self, slot: _Slot) -> Scores:
        """Run the model on what a slot holds, in the thread."""
        binding = slot.binding
        for name in self._outputs:
            binding.bind_output(name, "cpu")  # again: their shape may have changed
        # The upload came on another stream than the model's, and a copy from memory that is not page-locked
        # may still be on its way when the call returns.
        binding.synchronize_inputs()
        self._session.run_with_iobinding(binding)
        values = dict(zip(self._outputs, binding.copy_outputs_to_cpu(), strict=True))
        return Scores.of(values)


def _pinned_pool(device: int, held: ExitStack) -> FramePool:
    """Return a pool of page-locked arrays, which are copied to the GPU without another copy on the host."""
    try:
        context = held.enter_context(closing(PrimaryContext(device)))
    except BackendError:
        return FramePool()
    frames = PinnedFrames(DriverPinning(context))
    held.callback(frames.free)
    return FramePool(frames.make)


def has_cuda_provider() -> bool:
    """Whether the installed onnxruntime was built for CUDA, which does not say that there is a GPU."""
    try:
        return CUDA_PROVIDER in import_onnxruntime().get_available_providers()
    except BackendError:
        return False


def why_no_cuda() -> str:
    """Return why the installed onnxruntime has no CUDA, and the command that changes it."""
    if has_both_packages():
        return f"the files of the CPU package lie over those of onnxruntime-gpu; {repair_command()}"
    return _INSTALL


def _open(ort: Any, bundle: Bundle, name: str, device: int, *, tf32: bool = False) -> Any:
    """Open a session and make sure that it is on the GPU: onnxruntime falls back to the CPU silently."""
    if CUDA_PROVIDER not in ort.get_available_providers():
        raise BackendError(f"onnxruntime {ort.__version__}, as installed, has no CUDA: {why_no_cuda()}")
    find_gpu(device)
    model = bundle.model_bytes(name)
    options = {
        "device_id": device,
        "prefer_nhwc": 1,
        "use_tf32": int(tf32),  # fp16 does not use it
        "cudnn_conv_algo_search": "HEURISTIC",  # trying all takes seconds for every new size of a batch
        "cudnn_conv_use_max_workspace": 1,
        "arena_extend_strategy": "kSameAsRequested",  # doubling would fill the GPU before it is full
    }
    with contextlib.redirect_stdout(io.StringIO()) as said:  # standard output is for results
        _preload(ort)
        try:
            session = ort.InferenceSession(
                model,
                session_options(ort, 1),
                providers=[
                    (CUDA_PROVIDER, {key: str(value) for key, value in options.items()}),
                    "CPUExecutionProvider",
                ],
            )
        except Exception as error:  # as above
            if is_out_of_memory(error):
                raise BackendError(
                    f"GPU {device} has too little free memory for {bundle.path}: {name}; nvidia-smi lists"
                    " what uses it, --backend onnxruntime runs on the CPU"
                ) from error
            raise BundleError(
                f"{bundle.path}: {name} does not load in onnxruntime {ort.__version__}: {one_line(error)}"
            ) from error
    if session.get_providers()[0] != CUDA_PROVIDER:
        words = " ".join(said.getvalue().split())[:300] or "it does not say why"
        raise BackendError(
            f"onnxruntime {ort.__version__} fell back to {session.get_providers()[0]}: {words}\n{_LIBRARIES}"
        )
    session.disable_fallback()  # nor while it runs
    return session


def _preload(ort: Any) -> None:
    """Load CUDA's libraries from the packages of NVIDIA, where the system has none."""
    if hasattr(ort, "preload_dlls"):
        with contextlib.suppress(OSError, RuntimeError):  # the session reports what is missing
            ort.preload_dlls()
