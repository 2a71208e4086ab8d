"""ONNX files on the CPU through OpenVINO, which also computes in bfloat16 where the CPU has it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import Device, Scores, SubmittingBackend, one_line, run_failure
from tsm_runtime.backends.onnxruntime import check_tensors
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.clips.pool import FramePool
from tsm_runtime.errors import BackendError, BundleError
from tsm_runtime.machine import num_cores

_NUM_REQUESTS = 2
"""While one batch is worked on, the next is ready."""

GraphCall = Callable[[Mapping[str, npt.NDArray[np.float32]]], dict[str, npt.NDArray[np.float32]]]
"""Outputs by name, of inputs by name."""

_TYPES = {"u8": "uint8", "f32": "float"}


@dataclass(eq=False, slots=True)
class _Request:
    """An inference request, its inputs and outputs."""

    request: Any
    batch: SubmittedBatch | None = None


@dataclass(eq=False, slots=True)
class SubmittedBatch:
    """A batch that was given to `OpenvinoBackend.submit`, to be given to its `result`."""

    frames: npt.NDArray[np.uint8]
    """Read by the engine until there are scores."""
    scores: Scores | None = None


class OpenvinoBackend(SubmittingBackend):
    """A compiled model over one ONNX file of a bundle, as fp32 or INT8 file in their own precision.

    Args:
        bundle: bundle of the model and its labels.
        name: which of the bundle's models, `model.fp32.onnx` for one.
        bf16: compute the parts that are fp32 in bfloat16, of eight bits: about twice as fast, less exact.
        num_threads: of the convolutions; default: all cores that this process may use.

    Raises:
        BackendError: openvino is not installed, or bfloat16 is requested and the CPU has none.
        BundleError: the model is missing, altered, not loadable, or does not fit the manifest.
    """

    device: Device = "cpu"
    in_flight = _NUM_REQUESTS
    best_batch = 1

    def __init__(
        self,
        bundle: Bundle,
        name: str = "model.fp32.onnx",
        *,
        bf16: bool = False,
        num_threads: int | None = None,
    ) -> None:
        core = _core()
        if bf16 and not _has_bf16(core):
            raise BackendError(
                f"this CPU ({core.get_property('CPU', 'FULL_DEVICE_NAME')}) does not compute in bfloat16;"
                " leave --precision out for fp32"
            )
        self._compiled = _compiled(core, bundle, name, bf16=bf16, num_threads=num_threads or num_cores())
        check_tensors(_tensors(self._compiled), bundle.manifest, f"{bundle.path}: {name}")
        self._outputs = [output.get_any_name() for output in self._compiled.outputs]
        self._free = [_Request(self._compiled.create_infer_request()) for _ in range(_NUM_REQUESTS)]
        self._flying: deque[_Request] = deque()
        self.frame_pool = FramePool()
        precision = "bf16" if bf16 else bundle.manifest.files[name].precision
        self.name = f"openvino {_version()} CPU, {precision}"

    def submit(self, frames: npt.NDArray[np.uint8]) -> SubmittedBatch:
        """Begin to score a batch, which must stay as it is until `result`.

        Raises:
            RunError: OpenVINO failed.
        """
        self._require_open()
        if not self._free:
            self._collect_oldest()
        batch = SubmittedBatch(np.ascontiguousarray(frames))
        slot = self._free[-1]
        try:
            slot.request.set_tensor("frames", _openvino().Tensor(batch.frames, shared_memory=True))
            slot.request.start_async()
        except Exception as error:  # OpenVINO raises RuntimeError, and what pybind11 makes of a wrong call
            raise run_failure(self.name, len(frames), error) from error
        slot.batch = batch
        self._flying.append(self._free.pop())
        return batch

    def result(self, batch: SubmittedBatch) -> Scores:
        """Wait for the scores of a submitted batch; in any order, and more than once.

        Raises:
            RunError: OpenVINO failed.
        """
        while batch.scores is None:
            self._require_open()
            if not any(slot.batch is batch for slot in self._flying):
                raise ValueError(f"{self.name}: this batch is not in flight here")
            self._collect_oldest()
        return batch.scores

    def close(self) -> None:
        """Wait for batches in flight and release the model; a second call does nothing."""
        for slot in self._flying:
            slot.request.cancel()
        self._flying.clear()
        self._free.clear()
        self._compiled = None

    def _require_open(self) -> None:
        if self._compiled is None:
            raise ValueError(f"{self.name}: closed")

    def _collect_oldest(self) -> None:
        slot = self._flying.popleft()
        batch, slot.batch = slot.batch, None
        assert batch is not None  # it is in flight
        self._free.append(slot)
        try:
            slot.request.wait()
        except Exception as error:  # as above
            raise run_failure(self.name, len(batch.frames), error) from error
        found = {name: slot.request.get_tensor(name).data.copy() for name in self._outputs}
        batch.scores = Scores.of(found)


def _has_bf16(core: Any) -> bool:
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise BackendError("openvino is not installed: pip install 'tsm-tal[openvino]'") from error
    return openvino


def _core() -> Any:
    return _openvino().Core()


def _version() -> str:
    return str(_openvino().__version__).partition("-")[0]


def _compiled(core: Any, bundle: Bundle, name: str, *, bf16: bool, num_threads: int) -> Any:
    model = bundle.model_bytes(name)
    what = f"{bundle.path}: {name} does not load in openvino {_version()}"
    # OpenVINO would read weights from any path that the file names, and no hash covers those. Every such
    # weight has an entry of this name (onnx.proto, TensorProto.external_data).
    if b"location" in model:
        raise BundleError(f"{what}: it keeps weights in other files; export it again")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",  # its own choice is bf16 where the CPU has it
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": num_threads,
    }
    try:
        return core.compile_model(core.read_model(model), "CPU", settings)
    except Exception as error:  # as above
        raise BundleError(f"{what}: {one_line(error)}") from error


def _tensors(compiled: Any) -> dict[str, tuple[str, list[int | str]]]:
    """Element type and shape of inputs and outputs, as `check_tensors` wants them."""
    found: dict[str, tuple[str, list[int | str]]] = {}
    for port in (*compiled.inputs, *compiled.outputs):
        kind = port.get_element_type().get_type_name()
        shape = [int(d.get_length()) if d.is_static else "N" for d in port.get_partial_shape()]
        found[port.get_any_name()] = (_TYPES.get(kind, kind), shape)
    return found


def open_graph(
    bundle: Bundle, name: str, *, num_threads: int
) -> tuple[GraphCall, dict[str, list[int | str]]]:
    """Open any graph of a bundle.

    Returns:
        A function from inputs to outputs, and the shapes of both by name.

    Raises:
        BackendError: openvino is not installed.
        BundleError: the file is missing, altered or not loadable.
    """
    compiled = _compiled(_core(), bundle, name, bf16=False, num_threads=num_threads)
    names = [output.get_any_name() for output in compiled.outputs]

    def call(inputs: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
        found = compiled(dict(inputs))
        return {name: np.array(found[name]) for name in names}

    return call, {name: shape for name, (_, shape) in _tensors(compiled).items()}
