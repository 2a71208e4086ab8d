"""A plan of `preprocess.onnx`: NVDEC's planes in, a picture out, all on the GPU.

Nothing here ran on a GPU for a release: tests put doubles in the place of TensorRT and the GPU.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import numpy as np
from av import VideoFrame

from tsm_runtime.backends.cuda.memory import ALIGNMENT, DeviceBuffer, DeviceError, DeviceMemory
from tsm_runtime.backends.cuda.planes import PLANES, Planes
from tsm_runtime.backends.tensorrt.library import Heard, import_library, listening
from tsm_runtime.backends.tensorrt.picture_plan import load_picture_plan
from tsm_runtime.backends.tensorrt.plan import SMALLER, letting_go
from tsm_runtime.backends.tensorrt.plan_fit import engine_info, require_fit
from tsm_runtime.backends.tensorrt.plan_names import plan_name, plans_for_gpu
from tsm_runtime.backends.tensorrt.progress import build_bar
from tsm_runtime.backends.tensorrt.rebuild import build_picture_plan, store_plan
from tsm_runtime.backends.tensorrt.slots import hold
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.manifest import EngineInfo
from tsm_runtime.errors import BackendError, BundleError, OutOfMemoryError, RunError
from tsm_runtime.video.preprocess import VIEW_SHAPES, PictureView

_log = logging.getLogger("tsm_runtime")


class TensorrtDrawer:
    """Draws pictures on a stream of its own, those of a clip without a wait between them.

    Any thread may call `draw`.

    Args:
        bundle: where the plan is from.
        name: of its file.
        memory: of the GPU, left open.

    Raises:
        BundleError: the plan is missing, altered, for another GPU or version, or does not load.
        BackendError: the GPU's memory does not suffice.
    """

    takes_several = False

    def __init__(self, bundle: Bundle, name: str, memory: DeviceMemory) -> None:
        data, info = bundle.model_bytes(name), engine_info(bundle, name)
        self._trt, self._memory = import_library(info.library), memory
        self._lock = threading.Lock()
        self._held = ExitStack()
        self._copies: dict[str, DeviceBuffer] = {}
        """Of planes that lie where no tensor may."""
        self.name = f"{bundle.path / name}"
        require_fit(info, version=str(self._trt.__version__), gpu=memory.gpu, what=self.name)
        try:
            with memory.active(), letting_go(), listening(self._trt) as heard:
                try:
                    self._open(bundle, name, data, info, heard)
                except BaseException:
                    self._held.close()
                    raise
        except DeviceError as error:
            raise BackendError(f"{memory.gpu.name} cannot take {self.name}: {error}") from error

    def refusal(self, frame: VideoFrame) -> str | None:
        """Say why a picture of NVDEC cannot be drawn, or return None."""
        for name, plane in zip(PLANES, frame.planes, strict=True):
            least, most = self._plan.limits[name]
            shape = (1, plane.height, plane.line_size)
            if not all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True)):
                return (
                    f"pictures of {frame.width} x {frame.height}, in rows of {plane.line_size} bytes:"
                    f" {self.name} takes {least[1]} to {most[1]} rows of {least[2]} to {most[2]} bytes"
                )
        return None

    def draw(self, pictures: Sequence[Planes], view: PictureView, address: int) -> None:
        """Write pictures one after another to an address on the GPU, and wait once until all are there.

        Args:
            pictures: their planes on the GPU, all of one shape.
            view: of all; it is copied to the GPU where it is not that of the call before.
            address: of the first.

        Raises:
            OutOfMemoryError: there is no memory for pictures of this size.
            RunError: the GPU or TensorRT broke off.
        """
        with self._working() as heard:
            self._upload(view)
            for place, planes in enumerate(pictures):
                self._submit(planes, address + place * self._picture.num_bytes, heard)
            self._stream.synchronize()

    def close(self) -> None:
        """Release all resources while the GPU is active; a second call does nothing."""
        with self._lock:
            self._is_closed = True
            self._held.close()

    def _open(self, bundle: Bundle, name: str, data: bytes, info: EngineInfo, heard: Heard) -> None:
        """Take a stream and memory, and load the plan."""
        memory, held, size = self._memory, self._held, bundle.manifest.size
        self._is_closed = False
        self._stream = hold(held, memory.stream())
        pinned = {key: hold(held, memory.pin(shape, np.float32)) for key, shape in VIEW_SHAPES.items()}
        self._view_inputs = {key: buffer.array for key, buffer in pinned.items()}
        for array in self._view_inputs.values():
            array.fill(np.nan)  # equal to no view
        self._addresses = {
            key: hold(held, memory.allocate(array.nbytes)).address for key, array in self._view_inputs.items()
        }
        self._picture = hold(held, memory.allocate(size * size * 3))
        held.callback(self._forget_copies)
        self._plan = load_picture_plan(bundle, name, data, info, self._trt, memory, heard)
        held.callback(self._plan.release)
        held.callback(self._stream.synchronize)

    def _upload(self, view: PictureView) -> None:
        for name, value in view.inputs().items():
            if np.array_equal(self._view_inputs[name], value):
                continue  # it is on the GPU
            self._view_inputs[name][...] = value
            self._memory.upload(self._addresses[name], self._view_inputs[name], self._stream)

    def _submit(self, planes: Planes, address: int, heard: Heard) -> None:
        """Submit one picture; the stream keeps the order of those that share a copy of planes or picture."""
        shapes = {name: (1, *shape) for name, shape in planes.shapes.items()}
        addresses = dict(self._addresses)
        for name, plane_address in planes.addresses.items():
            addresses[name] = self._aligned(name, plane_address, planes.num_bytes(name))
        in_place = address % ALIGNMENT == 0
        addresses["frames"] = address if in_place else self._picture.address
        self._plan.enqueue(shapes, addresses, self._stream.handle, heard)
        if not in_place:
            self._memory.copy(address, self._picture.address, self._picture.num_bytes, self._stream)

    @contextmanager
    def _working(self) -> Iterator[Heard]:
        """Hold the lock and the GPU; at the end, also after an error, no picture is in use."""
        with self._lock:
            if self._is_closed:
                raise ValueError(f"{self.name}: closed")
            try:
                with self._memory.active(), letting_go(), listening(self._trt) as heard:
                    try:
                        yield heard
                    except BaseException:
                        with suppress(DeviceError):  # the first error is reported
                            self._stream.synchronize()
                        raise
            except DeviceError as error:
                kind = OutOfMemoryError if error.out_of_memory else RunError
                words = f"{error}; {SMALLER}" if error.out_of_memory else str(error)
                raise kind(f"{self.name}: {words}") from error

    def _aligned(self, name: str, address: int, num_bytes: int) -> int:
        """Return where a plane can be read: where it lies, or in a copy."""
        if address % ALIGNMENT == 0:
            return address
        copy = self._copies.get(name)
        if copy is None or copy.num_bytes < num_bytes:
            if copy is not None:
                del self._copies[name]
                copy.free()
            copy = self._copies[name] = self._memory.allocate(num_bytes)
        self._memory.copy(copy.address, address, num_bytes, self._stream)
        return copy.address

    def _forget_copies(self) -> None:
        while self._copies:
            self._copies.popitem()[1].free()


def open_drawer(
    bundle: Bundle,
    like: EngineInfo,
    memory: DeviceMemory,
    held: ExitStack,
    *,
    rebuild: bool = False,
    device: int = 0,
) -> TensorrtDrawer:
    """Open the plan of pictures beside a plan of clips.

    Args:
        bundle: of both.
        like: entry of the plan of clips, which determines the library.
        memory: of the GPU.
        held: closes the drawer.
        rebuild: see `TensorrtBackend.open_drawer`.
        device: number of the GPU, to build on.

    Raises:
        BundleError, BackendError: as `TensorrtBackend.open_drawer`.
    """
    plans = plans_for_gpu(bundle.manifest.files, "preprocess", like.library, memory.gpu.compute_capability)
    name = plans[0] if plans else plan_name("preprocess", like.library)
    try:
        drawer = _open(bundle, name, memory)
    except BundleError as error:
        if not rebuild:
            raise
        _log.warning(f"building {name} again: {error}")
        with build_bar(name) as progress:
            built = build_picture_plan(bundle, like, progress=progress, device=device)
        # The plan of clips may have been stored since this bundle was read.
        drawer = _open(store_plan(load_bundle(bundle.path), name, built), name, memory)
    held.callback(drawer.close)
    return drawer


def _open(bundle: Bundle, name: str, memory: DeviceMemory) -> TensorrtDrawer:
    if name not in bundle.manifest.files:
        raise BundleError(
            f"{bundle.path}: has no {name}; build it here: tsm-run --rebuild, or tsm-export --target"
            f" {'tensorrt-rtx' if '.rtx.' in name else 'tensorrt'}"
        )
    return TensorrtDrawer(bundle, name, memory)
