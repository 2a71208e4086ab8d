"""Loaded plan of `preprocess.onnx`: inputs, output and working memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tsm_runtime.backends.cuda.memory import ALIGNMENT, DeviceBuffer, DeviceMemory
from tsm_runtime.backends.cuda.planes import PLANES
from tsm_runtime.backends.tensorrt.library import Heard
from tsm_runtime.backends.tensorrt.plan import Tensor, deserialize, not_loaded, require_tensors
from tsm_runtime.backends.tensorrt.plan_fit import REBUILD
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.bundle.manifest import EngineInfo
from tsm_runtime.errors import BundleError, OutOfMemoryError, RunError
from tsm_runtime.video.preprocess import VIEW_SHAPES

Shape = tuple[int, ...]


class PicturePlan:
    """An execution context with the engine and runtime that it lives on; in use by one thread at a time.

    The memory that it works in is of the size that the pictures at hand need: that for the largest would be
    some hundred MiB.

    Args:
        runtime, engine, context: of the library; the context has no memory.
        memory: of the GPU.
        size: edge of the pictures that it gives.
    """

    def __init__(self, runtime: Any, engine: Any, context: Any, memory: DeviceMemory, size: int) -> None:
        self._runtime, self._engine, self._context = runtime, engine, context
        self._memory, self._output = memory, (1, size, size, 3)
        self._scratch: DeviceBuffer | None = None
        self._shapes: Mapping[str, Shape] = {}
        profiles = {name: engine.get_tensor_profile_shape(name, 0) for name in PLANES}
        self.limits = {name: (tuple(found[0]), tuple(found[-1])) for name, found in profiles.items()}
        """Least and most of each plane's shape."""

    def enqueue(
        self, shapes: Mapping[str, Shape], addresses: Mapping[str, int], stream: int, heard: Heard
    ) -> None:
        """Submit one picture; others of the same shapes may still be on their way in the same stream.

        Args:
            shapes: (1, rows, bytes) of each plane; others than before only while the stream is idle.
            addresses: tensor name to memory on the GPU, in use until the stream has passed this call.
            stream: handle of a stream that is not the default one.
            heard: listens to the library.

        Raises:
            RunError: the library refuses, with its own words.
            DeviceError: there is no memory for pictures of this size.
        """
        if shapes != self._shapes:
            self._take_shapes(shapes, heard)
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise _refused(heard, shapes)
        if not self._context.execute_async_v3(stream):
            raise _refused(heard, shapes)

    def release(self) -> None:
        """Release context, engine, runtime and memory, in this order, once the stream is idle."""
        self._context = None
        self._engine = None
        self._runtime = None
        self._free()

    def _take_shapes(self, shapes: Mapping[str, Shape], heard: Heard) -> None:
        context, self._shapes = self._context, {}
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise _refused(heard, shapes)
        if lacking := context.infer_shapes():
            raise _refused(heard, shapes, f"no shape is known for {', '.join(lacking)}")
        found = tuple(context.get_tensor_shape("frames"))
        if found != self._output:  # another one would be written beyond the buffer
            raise _refused(heard, shapes, f"frames would have the shape {found}")
        needed = context.update_device_memory_size_for_shapes()
        if not needed and heard.errors:  # this also indicates an error
            raise _refused(heard, shapes)
        if self._scratch is None or self._scratch.num_bytes < needed:
            self._free()
            self._scratch = self._memory.allocate(max(needed, ALIGNMENT))
        context.set_device_memory(self._scratch.address, self._scratch.num_bytes)
        self._shapes = dict(shapes)

    def _free(self) -> None:
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            scratch.free()


def load_picture_plan(
    bundle: Bundle, name: str, data: bytes, info: EngineInfo, trt: Any, memory: DeviceMemory, heard: Heard
) -> PicturePlan:
    """Deserialise a plan whose bytes and fit were checked, on the GPU that is active.

    Args:
        bundle: where it is from.
        name: of its file.
        data: the file.
        info: its entry in the manifest.
        trt: the library's module.
        memory: of the GPU.
        heard: listens to the library.

    Raises:
        BundleError: the library does not load it, or it does not fit the manifest.
        BackendError: the library does not start, or the GPU's memory does not suffice.
    """
    what, size = str(bundle.path / name), bundle.manifest.size
    runtime, engine = deserialize(bundle, name, data, info, trt, heard)
    # The first axis is free in the graph and 1 in the plan; in graphs of before it was 1 too.
    pictures = -1 if tuple(engine.get_tensor_shape("frames"))[:1] == (-1,) else 1
    expected: dict[str, Tensor] = dict.fromkeys(PLANES, ("INPUT", "UINT8", (pictures, -1, -1)))
    expected |= {key: ("INPUT", "FLOAT", shape) for key, shape in VIEW_SHAPES.items()}
    require_tensors(engine, expected | {"frames": ("OUTPUT", "UINT8", (pictures, size, size, 3))}, what)
    for tensor in expected:
        if engine.get_tensor_location(tensor) != trt.TensorLocation.DEVICE:
            raise BundleError(f"{what} reads {tensor} from the host's memory; {REBUILD}")
    context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    if context is None:
        raise not_loaded(heard, what)
    return PicturePlan(runtime, engine, context, memory, size)


def _refused(heard: Heard, shapes: Mapping[str, Shape], words: str = "") -> RunError:
    message = str(heard.error(f"does not draw a picture of planes {dict(shapes)}", words))
    return OutOfMemoryError(message) if "out of memory" in message.lower() else RunError(message)
