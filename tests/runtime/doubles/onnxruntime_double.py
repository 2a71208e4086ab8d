"""onnxruntime's module as it is on a machine with a GPU, on the CPU: its calls, its silence, its fallback.

Every call is first bound to the signature of the installed onnxruntime, so that one that the real module
would refuse fails here too. The model runs on the real CPU provider. "Memory on the GPU" is an array of this
double, which no other code can reach; the copy into it is finished only when `synchronize_inputs` is called,
as that of memory that is not page-locked may be.
"""

from __future__ import annotations

import ctypes
import inspect
import math
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as real
import pytest

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"


def check_call(function: Any, *args: object, **kwargs: object) -> None:
    """Fail where the real function takes no such arguments."""
    inspect.signature(function).bind(*args, **kwargs)


def memory_at(address: int, shape: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Return "memory on the GPU" that an address is of, as an array over it."""
    size = math.prod(shape)
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8).reshape(shape)


class OrtValueDouble:
    """Memory on the GPU."""

    def __init__(self, ort: OnnxruntimeDouble, shape: Sequence[int]) -> None:
        self.ort = ort
        self.content: npt.NDArray[Any] = np.full(shape, 255, np.uint8)
        self.on_its_way: npt.NDArray[np.uint8] | None = None

    def update_inplace(self, data: npt.NDArray[np.uint8]) -> None:
        check_call(real.OrtValue.update_inplace, self, data)
        assert data.shape == self.content.shape
        assert data.flags.c_contiguous
        assert self not in self.ort.in_use, "overwritten while the model reads it"
        self.on_its_way = data.copy()


class BindingDouble:
    """What one call of the model reads and writes."""

    def __init__(self, session: SessionDouble) -> None:
        self.session = session
        self.inputs: dict[str, OrtValueDouble] = {}
        self.outputs: list[str] = []
        self.addresses: dict[str, tuple[int, tuple[int, ...]]] = {}
        """Where outputs go that are to stay on the GPU, and their shape."""
        self.scores: list[npt.NDArray[np.float32]] = []

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValueDouble) -> None:
        check_call(real.IOBinding.bind_ortvalue_input, self, name, ortvalue)
        self.inputs[name] = ortvalue

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Any, buffer_ptr: int
    ) -> None:
        check_call(
            real.IOBinding.bind_input, self, name, device_type, device_id, element_type, shape, buffer_ptr
        )
        assert (element_type, device_type) == (np.uint8, "cuda")
        self.inputs[name] = value = OrtValueDouble(self.session.ort, ())
        value.content = memory_at(buffer_ptr, shape)

    def bind_cpu_input(self, name: str, arr_on_cpu: npt.NDArray[Any]) -> None:
        check_call(real.IOBinding.bind_cpu_input, self, name, arr_on_cpu)
        self.inputs[name] = value = OrtValueDouble(self.session.ort, ())
        value.content = arr_on_cpu.copy()

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Any = None,
        buffer_ptr: int | None = None,
    ) -> None:
        check_call(
            real.IOBinding.bind_output, self, name, device_type, device_id, element_type, shape, buffer_ptr
        )
        if name not in self.outputs:
            self.outputs.append(name)
        self.addresses.pop(name, None)
        if device_type == "cuda":
            assert element_type == np.uint8
            assert buffer_ptr
            self.addresses[name] = buffer_ptr, tuple(shape)

    def synchronize_inputs(self) -> None:
        check_call(real.IOBinding.synchronize_inputs, self)
        for value in self.inputs.values():
            if value.on_its_way is not None:
                value.content, value.on_its_way = value.on_its_way, None

    def copy_outputs_to_cpu(self) -> list[npt.NDArray[np.float32]]:
        check_call(real.IOBinding.copy_outputs_to_cpu, self)
        return self.scores


class SessionDouble:
    """A session that has the providers that the double lets it have."""

    def __init__(
        self, ort: OnnxruntimeDouble, model: bytes, sess_options: Any, *, providers: Sequence[Any]
    ) -> None:
        check_call(real.InferenceSession.__init__, self, model, sess_options, providers=providers)
        assert isinstance(sess_options, real.SessionOptions)
        self.ort = ort
        self.real = real.InferenceSession(model, sess_options, providers=[CPU])
        names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
        assert set(names) <= set(ort.get_available_providers())
        ort.provider_options = dict(p for p in providers if not isinstance(p, str))
        if ort.falls_back:
            print("EP Error: libcudnn.so.9: cannot open shared object file")  # noqa: T201  # as the real one
            names = [CPU]
        self.providers = names
        self.fallback = True

    def get_providers(self) -> list[str]:
        return self.providers

    def get_inputs(self) -> Any:
        return self.real.get_inputs()

    def get_outputs(self) -> Any:
        return self.real.get_outputs()

    def disable_fallback(self) -> None:
        check_call(real.InferenceSession.disable_fallback, self)
        self.fallback = False

    def io_binding(self) -> BindingDouble:
        check_call(real.InferenceSession.io_binding, self)
        return BindingDouble(self)

    def run_with_iobinding(self, iobinding: BindingDouble) -> None:
        check_call(real.InferenceSession.run_with_iobinding, self, iobinding)
        assert not self.fallback, "would go on on the CPU, silently"
        if "frames" not in iobinding.inputs:  # the preprocessing
            given = {name: value.content for name, value in iobinding.inputs.items()}
            iobinding.scores = self.real.run(iobinding.outputs, given)
            self.ort.num_drawings += 1
            for name, (address, shape) in iobinding.addresses.items():  # a run waits for its own stream
                memory_at(address, shape)[...] = iobinding.scores[iobinding.outputs.index(name)]
            return
        frames = iobinding.inputs["frames"]
        self.ort.in_use.add(frames)
        self.ort.running.wait(10)
        try:
            if len(frames.content) > self.ort.memory:
                raise RuntimeError(
                    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running"
                    " FusedConv node. bfc_arena.cc:376 Failed to allocate memory for requested buffer of size"
                )
            iobinding.scores = self.real.run(iobinding.outputs, {"frames": frames.content})
        finally:
            self.ort.in_use.discard(frames)


class OnnxruntimeDouble(ModuleType):
    """The module, put into `sys.modules` by `installed`.

    Args:
        available: providers that the build has.
        falls_back: CUDA's libraries do not load, of which the session says nothing but to standard output.
        memory: clips that a batch may have.
    """

    def __init__(
        self, *, available: Sequence[str] = (CUDA, CPU), falls_back: bool = False, memory: int = 10**9
    ) -> None:
        import threading

        super().__init__("onnxruntime")
        self.__spec__ = real.__spec__
        self.available, self.falls_back, self.memory = list(available), falls_back, memory
        self.__version__ = "1.31.1"
        self.SessionOptions = real.SessionOptions
        self.provider_options: dict[str, dict[str, str]] = {}
        self.in_use: set[OrtValueDouble] = set()
        self.running = threading.Event()
        """Clear it to keep the model from running on."""
        self.running.set()
        self.num_values = 0
        self.num_drawings = 0
        """Calls of preprocess.onnx."""
        self.OrtValue = self  # its class method is below

    def get_available_providers(self) -> list[str]:
        return self.available

    def preload_dlls(self) -> None:
        check_call(real.preload_dlls)
        print("Failed to load libcudart.so.13")  # noqa: T201  # as the real one

    def InferenceSession(self, *args: Any, **kwargs: Any) -> SessionDouble:  # noqa: N802
        return SessionDouble(self, *args, **kwargs)

    def ortvalue_from_shape_and_type(
        self, shape: Sequence[int], element_type: Any, device_type: str, device_id: int
    ) -> OrtValueDouble:
        check_call(real.OrtValue.ortvalue_from_shape_and_type, shape, element_type, device_type, device_id)
        assert (element_type, device_type) == (np.uint8, "cuda")
        self.num_values += 1
        return OrtValueDouble(self, shape)


def installed(monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> OnnxruntimeDouble:
    """Put a double in the place of onnxruntime, and a GPU into the machine."""
    from tsm_runtime.backends import onnxruntime_cuda
    from tsm_runtime.backends.cuda.gpu import Gpu

    double = OnnxruntimeDouble(**kwargs)
    monkeypatch.setitem(sys.modules, "onnxruntime", double)
    monkeypatch.setattr(onnxruntime_cuda, "find_gpu", lambda device=0: Gpu("H100", "9.0"))
    return double
