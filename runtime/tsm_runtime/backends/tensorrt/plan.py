"""Loaded plan: runtime, engine and execution context of TensorRT, and the shapes it accepts."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tsm_runtime.backends.base import output_shapes
from tsm_runtime.backends.tensorrt.library import Heard, library_logger
from tsm_runtime.backends.tensorrt.network import SINGLE, SINGLE_PROFILE
from tsm_runtime.backends.tensorrt.plan_fit import REBUILD
from tsm_runtime.backends.tensorrt.rebuild import refit_engine, source_graph
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.bundle.manifest import EngineInfo, Manifest
from tsm_runtime.errors import BackendError, BundleError, OutOfMemoryError, RunError

_log = logging.getLogger("tsm_runtime")

Tensor = tuple[str, str, tuple[int, ...]]
"""Mode, data type and shape of a tensor of a plan; -1: a free axis."""

INPUT = "frames"
SMALLER = (
    "free some of it (nvidia-smi shows which process holds it), or build the plan for smaller batches"
    " (--batch)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorShapes:
    """Inputs and outputs of a plan, for one clip.

    Args:
        frames: (T, size, size, 3), uint8.
        outputs: name to shape, float32.
        least: fewest clips of one call.
        most: most clips of one call.
    """

    frames: tuple[int, ...]
    outputs: Mapping[str, tuple[int, ...]]
    least: int
    most: int


def tensor_shapes(manifest: Manifest, info: EngineInfo) -> TensorShapes:
    """Return the inputs and outputs of a plan by the manifest."""
    outputs = output_shapes(manifest)
    least, _, most = info.batch
    return TensorShapes(frames=manifest.clip_spec.clip_shape, outputs=outputs, least=least, most=most)


class Plan:
    """Execution contexts with the engine and runtime that they live on; in use by one thread at a time.

    Args:
        runtime, engine: what the contexts live on.
        context: of any batch.
        single: of exactly one clip; None: there is none, and `context` runs these too.
        shapes: of the tensors.
    """

    def __init__(self, runtime: Any, engine: Any, context: Any, single: Any, shapes: TensorShapes) -> None:
        self.shapes = shapes
        self._runtime = runtime
        self._engine = engine
        self._context = context
        self._single = single

    def enqueue(self, num_clips: int, addresses: Mapping[str, int], stream: int, heard: Heard) -> None:
        """Submit one call of the engine.

        Args:
            num_clips: between `least` and `most`.
            addresses: tensor name to memory on the GPU, in use until the stream has passed this call.
            stream: handle of a stream that is not the default one.
            heard: listens to the library.

        Raises:
            RunError: the library refuses, with its own words.
        """
        context = self._single if num_clips == 1 and self._single is not None else self._context
        if not context.set_input_shape(INPUT, (num_clips, *self.shapes.frames)):
            raise _refused(heard, num_clips)
        if lacking := context.infer_shapes():
            raise _refused(heard, num_clips, f"no shape is known for {', '.join(lacking)}")
        for name, of_clip in self.shapes.outputs.items():
            shape = tuple(context.get_tensor_shape(name))
            if shape != (num_clips, *of_clip):  # another one would be written beyond the buffer
                raise _refused(heard, num_clips, f"{name} would have the shape {shape}")
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise _refused(heard, num_clips)
        if not context.execute_async_v3(stream):
            raise _refused(heard, num_clips)

    def release(self) -> None:
        """Release contexts, engine and runtime, in this order, once the stream is idle."""
        self._single = None
        self._context = None
        self._engine = None
        self._runtime = None


def load_plan(
    bundle: Bundle, name: str, data: bytes, info: EngineInfo, trt: Any, heard: Heard, stream: int
) -> Plan:
    """Deserialise a plan whose bytes and fit were checked, on the GPU that is active.

    Args:
        bundle: where it is from.
        name: of its file.
        data: the file.
        info: its entry in the manifest.
        trt: the library's module.
        heard: listens to the library.
        stream: handle of the stream that all calls will be submitted to.

    Raises:
        BundleError: the library does not load it, or it does not fit the manifest.
        BackendError: the library does not start, or the GPU's memory does not suffice.
    """
    what = str(bundle.path / name)
    shapes = tensor_shapes(bundle.manifest, info)
    runtime, engine = deserialize(bundle, name, data, info, trt, heard)
    _require_tensors(engine, shapes, what)
    context = engine.create_execution_context()
    if context is None:
        raise not_loaded(heard, what)
    return Plan(runtime, engine, context, _single_context(trt, engine, heard, stream, what), shapes)


def _single_context(trt: Any, engine: Any, heard: Heard, stream: int, what: str) -> Any:
    """Return a context of the profile for one clip, with memory for one only; None: the plan has none."""
    if engine.num_optimization_profiles <= SINGLE_PROFILE:
        return None
    limits = engine.get_tensor_profile_shape(INPUT, SINGLE_PROFILE)
    if tuple(shape[0] for shape in limits) != SINGLE:
        return None
    context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE)
    if context is not None and context.set_optimization_profile_async(SINGLE_PROFILE, stream):
        return context
    _log.warning(f"{what}: single clips run as small batches: {heard.error('has no context for one clip')}")
    return None


def deserialize(
    bundle: Bundle, name: str, data: bytes, info: EngineInfo, trt: Any, heard: Heard
) -> tuple[Any, Any]:
    """Return runtime and engine of a plan, with its weights: `load_plan` without a look at its tensors."""
    runtime = _runtime(trt, heard)
    if info.version_compatible:
        # Such a plan carries a lean runtime, which is native code; any other has no business to.
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise not_loaded(heard, str(bundle.path / name))
    if info.stripped:
        refit_engine(engine, source_graph(bundle, name), library=info.library)
    return runtime, engine


@contextmanager
def letting_go() -> Iterator[None]:
    """Clear the frames of an error that leaves the block, while the GPU is still active.

    What they hold of the library would otherwise live on with the error, beyond the hold on the GPU.
    """
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise


def _runtime(trt: Any, heard: Heard) -> Any:
    try:
        return trt.Runtime(library_logger(trt))
    except TypeError as error:  # what the bindings make of a null pointer
        raise heard.error("does not start") from error


def _require_tensors(engine: Any, shapes: TensorShapes, what: str) -> None:
    expected: dict[str, Tensor] = {INPUT: ("INPUT", "UINT8", (-1, *shapes.frames))}
    expected |= {name: ("OUTPUT", "FLOAT", (-1, *shape)) for name, shape in shapes.outputs.items()}
    require_tensors(engine, expected, what)
    profile = engine.get_tensor_profile_shape(INPUT, 0)
    least, most = profile[0][0], profile[-1][0]
    if (least, most) != (shapes.least, shapes.most):
        raise BundleError(
            f"{what} takes {least} to {most} clips, but the manifest says {shapes.least} to {shapes.most};"
            f" {REBUILD}"
        )


def require_tensors(engine: Any, expected: Mapping[str, Tensor], what: str) -> None:
    """Check the inputs and outputs of an engine.

    Raises:
        BundleError: they are not as expected.
    """
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    got = {
        name: (
            engine.get_tensor_mode(name).name,
            engine.get_tensor_dtype(name).name,
            tuple(engine.get_tensor_shape(name)),
        )
        for name in names
    }
    if got != expected:
        raise BundleError(f"{what} does not fit the manifest: expected {dict(expected)}, got {got}")


def not_loaded(heard: Heard, what: str) -> BackendError | BundleError:
    """Return the error of a plan that the library does not load, in its words."""
    words = str(heard.error(f"does not load {what}"))
    if "out of memory" in words.lower():
        return BackendError(f"{words}; {SMALLER}")
    return BundleError(f"{words}; {REBUILD}")


def _refused(heard: Heard, num_clips: int, words: str = "") -> RunError:
    message = str(heard.error(f"does not run a batch of {num_clips}", words))
    return OutOfMemoryError(message) if "out of memory" in message.lower() else RunError(message)
