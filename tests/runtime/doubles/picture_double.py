"""The double of TensorRT, which knows plans of preprocess.onnx too; what these compute a test says.

Beyond what the double of plans of clips looks after: a context without memory of its own is given some,
enough for the shapes at hand and not while it runs, after the shapes were set and their size was read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from cuda_double import FakeDevice
from tensorrt_double import SIZE, PlanText, TensorrtDouble, plan_for

from tsm_runtime.backends.tensorrt.backend import TensorrtBackend
from tsm_runtime.backends.tensorrt.plan_names import plan_name
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.bundle.manifest import EngineInfo, ModelFile, sha256
from tsm_runtime.video.preprocess import VIEW_SHAPES

__all__ = ["LIMITS", "MODEL", "NEWEST", "Machine", "PictureDouble", "mean_level"]

NEWEST = "tensorrt-11.4.0.106"
MODEL = "model.fp16.plan"

Values = Mapping[str, npt.NDArray[Any]]

LIMITS = {
    "y": ((1, 16, 16), (1, 1080, 2048), (1, 4352, 16384)),
    "uv": ((1, 8, 16), (1, 540, 2048), (1, 2176, 16384)),
}
NAMES = ["frames", *VIEW_SHAPES, *LIMITS]


def mean_level(values: Values, size: int) -> npt.NDArray[np.uint8]:
    """A plain picture: mean of all bytes of y, first of uv, and the sum of the description of the picture."""
    description = sum(float(values[name].sum()) for name in VIEW_SHAPES)
    rgb = (values["y"].mean(), values["uv"].flat[0], abs(description) % 256)
    return np.broadcast_to(np.array(rgb).astype(np.uint8), (1, size, size, 3))


class PictureDouble(TensorrtDouble):
    """As `TensorrtDouble`; `draws` computes the output of a plan of pictures."""

    def __init__(self, name: str, device: FakeDevice) -> None:
        self.draws: Callable[[Values, int], npt.NDArray[np.uint8]] = mean_level
        self.on_host = ""
        """A tensor that is read from the host's memory."""
        self.num_pictures = 0
        super().__init__(name, device)

    # --- ICudaEngine ----------------------------------------------------------------------------------

    def ICudaEngine__num_io_tensors(self, this: Any) -> int:  # noqa: N802
        return len(NAMES) if this.double.plan.pictures else super().ICudaEngine__num_io_tensors(this)

    def ICudaEngine__get_tensor_name(self, this: Any, index: int) -> str:  # noqa: N802
        if this.double.plan.pictures:
            return NAMES[index]
        return super().ICudaEngine__get_tensor_name(this, index)

    def ICudaEngine__get_tensor_mode(self, this: Any, name: str) -> object:  # noqa: N802
        if not this.double.plan.pictures:
            return super().ICudaEngine__get_tensor_mode(this, name)
        modes = self.module.TensorIOMode
        return modes.OUTPUT if name == "frames" else modes.INPUT

    def ICudaEngine__get_tensor_dtype(self, this: Any, name: str) -> object:  # noqa: N802
        if not this.double.plan.pictures:
            return super().ICudaEngine__get_tensor_dtype(this, name)
        types = self.module.DataType
        return types.FLOAT if name in VIEW_SHAPES else types.UINT8

    def ICudaEngine__get_tensor_location(self, this: Any, name: str) -> object:  # noqa: N802
        places = self.module.TensorLocation
        return places.HOST if name == self.on_host else places.DEVICE

    def ICudaEngine__get_tensor_profile_shape(  # noqa: N802
        self, this: Any, name: str, profile_index: int
    ) -> list[object]:
        if not this.double.plan.pictures:
            return super().ICudaEngine__get_tensor_profile_shape(this, name, profile_index)
        return [self.module.Dims(shape) for shape in LIMITS[name]]

    def ICudaEngine__create_execution_context(self, this: Any, **options: object) -> Any:  # noqa: N802
        if not this.double.plan.pictures:
            return super().ICudaEngine__create_execution_context(this, **options)
        self.device.require_active("create_execution_context")
        wanted = self.module.ExecutionContextAllocationStrategy.USER_MANAGED
        self.device.require(options == {"strategy": wanted}, f"a context with {options}")
        if self._refused("ICudaEngine.create_execution_context", this.double.runtime.double.logger):
            return None
        self.alive.append("IExecutionContext")
        return self.module.make(
            "IExecutionContext", engine=this, shape=None, addresses={}, running=[], planes={}, memory=(0, 0),
            needed_bytes=None,
        )  # fmt: skip

    # --- IExecutionContext ----------------------------------------------------------------------------

    def IExecutionContext__set_input_shape(self, this: Any, name: str, shape: Any) -> bool:  # noqa: N802
        if not self._plan_of(this).pictures:
            return super().IExecutionContext__set_input_shape(this, name, shape)
        if self._refused("IExecutionContext.set_input_shape", self._logger(this)):
            return False
        self.device.require(not this.double.running, "shapes change while the GPU runs the context")
        least, _, most = LIMITS[name]
        if not all(a <= b <= c for a, b, c in zip(least, tuple(shape), most, strict=True)):
            self._say(self._logger(this), f"setInputShape: {name} {tuple(shape)} is outside the profile")
            return False
        this.double.planes[name], this.double.needed_bytes = tuple(shape), None
        return True

    def IExecutionContext__infer_shapes(self, this: Any) -> list[str]:  # noqa: N802
        if not self._plan_of(this).pictures:
            return super().IExecutionContext__infer_shapes(this)
        if self._refused("IExecutionContext.infer_shapes", self._logger(this)):
            return ["y"]
        return [name for name in LIMITS if name not in this.double.planes]

    def IExecutionContext__get_tensor_shape(self, this: Any, name: str) -> object:  # noqa: N802
        plan = self._plan_of(this)
        if not plan.pictures:
            return super().IExecutionContext__get_tensor_shape(this, name)
        return self.module.Dims(self.shown_shapes.get(name, self._shape(plan, name, 1)))

    def IExecutionContext__update_device_memory_size_for_shapes(self, this: Any) -> int:  # noqa: N802
        self.device.require_active("update_device_memory_size_for_shapes")
        self.device.require(
            set(this.double.planes) == set(LIMITS), "memory is requested before shapes are set"
        )
        if self._refused("IExecutionContext.update_device_memory_size_for_shapes", self._logger(this)):
            return 0
        this.double.needed_bytes = 4 * sum(map(math.prod, this.double.planes.values()))
        return this.double.needed_bytes  # type: ignore[no-any-return]

    def IExecutionContext__set_device_memory(self, this: Any, memory: int, size: int) -> None:  # noqa: N802
        self.device.require(not this.double.running, "memory changes while the GPU runs the context")
        self.device.require(memory % 256 == 0, "memory of a context is not aligned")
        self.device.buffer_at(memory, size)
        this.double.memory = memory, size

    def IExecutionContext__set_tensor_address(self, this: Any, name: str, memory: int) -> bool:  # noqa: N802
        if not self._plan_of(this).pictures:
            return super().IExecutionContext__set_tensor_address(this, name, memory)
        if self._refused("IExecutionContext.set_tensor_address", self._logger(this)):
            return False
        self.device.require(name in NAMES, f"no tensor {name}")
        this.double.addresses[name] = int(memory)
        return True

    def IExecutionContext__execute_async_v3(self, this: Any, stream_handle: int) -> bool:  # noqa: N802
        plan, device = self._plan_of(this), self.device
        if not plan.pictures:
            return super().IExecutionContext__execute_async_v3(this, stream_handle)
        device.require_active("execute_async_v3")
        if self._refused("IExecutionContext.execute_async_v3", self._logger(this)):
            return False
        planes, addresses, running = dict(this.double.planes), this.double.addresses, this.double.running
        device.require(addresses.keys() == set(NAMES), f"execute_async_v3 with addresses of {addresses}")
        device.require(not any(a % 256 for a in addresses.values()), "a tensor is not aligned")
        device.require(this.double.needed_bytes is not None, "the memory that these shapes need was not read")
        device.require(this.double.memory[1] >= this.double.needed_bytes, "a context has too little memory")
        shapes = {name: planes.get(name) or self._shape(plan, name, 1) for name in NAMES}
        width = {name: 4 if name in VIEW_SHAPES else 1 for name in NAMES}
        spans = {
            name: device.span_at(addresses[name], math.prod(shapes[name]) * width[name]) for name in NAMES
        }
        scratch = device.buffer_at(*this.double.memory)

        def run() -> None:
            running.remove(token)
            self.num_pictures += 1
            scratch.data[:] = 0xEE
            values = {
                name: span.data.view(np.float32 if name in VIEW_SHAPES else np.uint8).reshape(shapes[name])
                for name, span in spans.items()
                if name != "frames"
            }
            spans["frames"].data[:] = self.draws(values, plan.pictures).reshape(-1)

        token = object()
        running.append(token)
        device.stream_of(stream_handle).submit(run, scratch, *(span.owner for span in spans.values()))
        return True

    # --------------------------------------------------------------------------------------------------

    def _plan_of(self, context: Any) -> PlanText:
        return context.double.engine.double.plan  # type: ignore[no-any-return]

    def _shape(self, plan: PlanText, name: str, number: int) -> tuple[int, ...]:
        if not plan.pictures:
            return super()._shape(plan, name, number)
        if name in LIMITS:
            return (1, -1, -1)
        return VIEW_SHAPES.get(name, (1, plan.pictures, plan.pictures, 3))


class Machine:
    """A GPU with TensorRT on it, and a bundle with plans of clips and of pictures."""

    def __init__(self, bundle: Bundle, contract: str, device: FakeDevice) -> None:
        self.device, self.bundle = device, bundle
        self.double = PictureDouble(contract, device)
        self.files: dict[str, ModelFile] = dict(bundle.manifest.files)
        self.put(MODEL, plan_for(self.double.version).encode())
        plan = plan_for(self.double.version, pictures=SIZE).encode()
        library: Any = self.double.module.__name__
        self.put(plan_name("preprocess", library), plan, batch=(1, 1, 1))

    def put(self, name: str, data: bytes, **changes: Any) -> None:
        """Let the bundle hold a plan; `changes` are of its EngineInfo."""
        (self.bundle.path / name).write_bytes(data)
        info = EngineInfo(
            library=self.double.module.__name__,  # type: ignore[arg-type]
            version=self.double.version,
            gpu=self.device.gpu.name,
            compute_capabilities=(self.device.gpu.compute_capability,),
            batch=(1, 4, 8),
            onnx_sha256=self.bundle.manifest.files["model.fp32.onnx"].sha256,
        )
        kind: Any = "clips" if name == MODEL else "preprocess"
        self.files[name] = ModelFile(
            sha256=sha256(data), precision="fp32", kind=kind, engine=msgspec.structs.replace(info, **changes)
        )
        self.write()

    def write(self) -> None:
        manifest = msgspec.structs.replace(self.bundle.manifest, format_version=3, files=self.files)
        self.bundle = msgspec.structs.replace(self.bundle, manifest=manifest)
        (self.bundle.path / "manifest.json").write_bytes(msgspec.json.encode(manifest))

    def open(self) -> TensorrtBackend:
        return TensorrtBackend(self.bundle, MODEL, memory=self.device)
