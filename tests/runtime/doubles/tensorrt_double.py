"""TensorRT without TensorRT: the stored contract of its bindings, with an engine that knows bright from dark.

What the library does beyond its signatures is what the rest of the program counts on: it says None, False or
a list of names instead of raising, and logs the reason; work that was submitted reads its
tensors' memory when it runs; objects live as long as what was made of them. The engine computes what the tiny
bundle and `fakes.BrightnessBackend` do.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from cuda_double import FakeDevice
from fakes import ACTIONS, SCENES, BrightnessBackend
from tensorrt_contract import ContractModule, contract_module

NUM_FRAMES, SIZE = 4, 32  # as the tiny bundle
PLAN_TEXT = "a plan of the double "
WEIGHT_BYTES = 4096
SCRATCH_BYTES_PER_CLIP = 1024


@dataclass(frozen=True, kw_only=True)
class PlanText:
    """What the double's plans hold."""

    version: str
    batch: tuple[int, int, int] = (1, 4, 8)
    frames: tuple[int, ...] = (NUM_FRAMES, SIZE, SIZE, 3)
    frames_type: str = "UINT8"
    outputs: tuple[tuple[str, int], ...] = (("scene_scores", len(SCENES)), ("action_scores", len(ACTIONS)))
    version_compatible: bool = False
    stripped: bool = False
    has_single: bool = False
    """Whether a second profile is for exactly one clip."""
    pictures: int = 0
    """Edge of what a plan of preprocess.onnx gives; 0: a plan of clips. See `picture_double`."""
    weights: str = ""
    """SHA-256 of the ONNX file that a stripped plan takes its weights from."""

    def encode(self) -> bytes:
        return (PLAN_TEXT + json.dumps(asdict(self))).encode()

    @classmethod
    def decode(cls, data: bytes) -> PlanText:
        found = json.loads(data.decode().removeprefix(PLAN_TEXT))
        return cls(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
        )

    @property
    def names(self) -> list[str]:
        """Outputs first: no order of tensors is promised."""
        return [name for name, _ in self.outputs] + ["frames"]


class TensorrtDouble:
    """The module of a version, on a GPU that is a double too.

    Args:
        name: of the stored contract.
        device: where engines run.

    What goes wrong is chosen by setting: `refuse` to the names of calls that give False, None or names;
    `shown_shapes` to shapes that the context reports instead of the right ones.
    """

    def __init__(self, name: str, device: FakeDevice) -> None:
        self.module = contract_module(name)
        self.device = device
        self.refuse: dict[str, str] = {}
        """`Class.method` to the message for the logger."""
        self.shown_shapes: dict[str, tuple[int, ...]] = {}
        self.alive: list[str] = []
        self.deserialized: list[bytes] = []
        self.runs: list[int] = []
        """Clips of each call of the engine."""
        self.profiles: list[int] = []
        """Profile of the context of each call."""
        self.stream_of_context: dict[int, int] = {}
        add_values(self.module)
        for kind in ("Runtime", "ICudaEngine", "IExecutionContext"):
            self.module.implements(f"{kind}.__del__")(self._deleted(kind))
        for member in dir(self):
            kind, _, method = member.partition("__")
            if kind in ("Runtime", "ICudaEngine", "IExecutionContext", "Refitter", "OnnxParserRefitter"):
                self.module.implements(f"{kind}.{method}")(getattr(self, member))

    @property
    def version(self) -> str:
        return self.module.__version__

    # --- Runtime --------------------------------------------------------------------------------------

    def Runtime____init__(self, this: Any, logger: Any) -> None:  # noqa: N802
        self.device.require_active("Runtime()")
        this.double.logger = logger
        self.alive.append("Runtime")

    def Runtime__deserialize_cuda_engine(self, this: Any, serialized_engine: Any) -> Any:  # noqa: N802
        self.device.require_active("deserialize_cuda_engine")
        self.deserialized.append(bytes(serialized_engine))
        logger = this.double.logger
        if self._refused("Runtime.deserialize_cuda_engine", logger):
            return None
        try:
            plan = PlanText.decode(bytes(serialized_engine))
        except (ValueError, TypeError):
            return self._say(logger, "[runtime.cpp] Serialization assertion magicTag == kPLAN_MAGIC failed.")
        if plan.version_compatible and not this.engine_host_code_allowed:
            return self._say(logger, "Plan has host code, which is not allowed; set engineHostCodeAllowed.")
        if plan.version != self.version and not plan.version_compatible:
            return self._say(logger, f"The engine plan file expects library version {plan.version}.")
        self.alive.append("ICudaEngine")
        return self.module.make("ICudaEngine", plan=plan, runtime=this, has_weights=not plan.stripped)

    # --- ICudaEngine ----------------------------------------------------------------------------------

    def ICudaEngine__num_io_tensors(self, this: Any) -> int:  # noqa: N802
        return len(this.double.plan.names)

    def ICudaEngine__get_tensor_name(self, this: Any, index: int) -> str:  # noqa: N802
        return this.double.plan.names[index]  # type: ignore[no-any-return]

    def ICudaEngine__get_tensor_mode(self, this: Any, name: str) -> object:  # noqa: N802
        modes = self.module.TensorIOMode
        return modes.INPUT if name == "frames" else modes.OUTPUT

    def ICudaEngine__get_tensor_dtype(self, this: Any, name: str) -> object:  # noqa: N802
        kind = this.double.plan.frames_type if name == "frames" else "FLOAT"
        return getattr(self.module.DataType, kind)

    def ICudaEngine__get_tensor_shape(self, this: Any, name: str) -> object:  # noqa: N802
        return self.module.Dims(self._shape(this.double.plan, name, -1))

    def ICudaEngine__get_tensor_profile_shape(  # noqa: N802
        self, this: Any, name: str, profile_index: int
    ) -> list[object]:
        plan = this.double.plan
        if profile_index > plan.has_single or name != "frames":  # of an output there is none
            return [self.module.Dims()] * 3
        batch = (1, 1, 1) if profile_index else plan.batch
        return [self.module.Dims(self._shape(plan, name, number)) for number in batch]

    def ICudaEngine__num_optimization_profiles(self, this: Any) -> int:  # noqa: N802
        return 1 + this.double.plan.has_single  # type: ignore[no-any-return]

    def ICudaEngine__create_execution_context(self, this: Any, **options: object) -> Any:  # noqa: N802
        self.device.require_active("create_execution_context")
        logger = this.double.runtime.double.logger
        if self._refused("ICudaEngine.create_execution_context", logger):
            return None
        plan = this.double.plan
        on_change = self.module.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
        clips = 1 if options.get("strategy") is on_change else plan.batch[-1]
        scratch = WEIGHT_BYTES + SCRATCH_BYTES_PER_CLIP * clips
        if self.device.used_bytes + scratch > self.device.capacity:
            words = f"[defaultAllocator.cpp] Requested amount of GPU memory ({scratch} bytes): out of memory"
            return self._say(logger, words)
        self.alive.append("IExecutionContext")
        return self.module.make(
            "IExecutionContext", engine=this, shape=None, addresses={}, running=[], profile=0
        )

    # --- IExecutionContext ----------------------------------------------------------------------------

    def IExecutionContext__set_input_shape(self, this: Any, name: str, shape: Any) -> bool:  # noqa: N802
        plan, shape = this.double.engine.double.plan, tuple(shape)
        if self._refused("IExecutionContext.set_input_shape", self._logger(this)):
            return False
        least, _, most = (1, 1, 1) if this.double.profile else plan.batch
        if name != "frames" or shape[1:] != plan.frames or not least <= shape[0] <= most:
            self._say(self._logger(this), f"setInputShape: {name} {shape} is outside the profile")
            return False
        this.double.shape = shape
        return True

    def IExecutionContext__set_optimization_profile_async(  # noqa: N802
        self, this: Any, profile_index: int, stream_handle: int
    ) -> bool:
        self.device.require_active("set_optimization_profile_async")
        if self._refused("IExecutionContext.set_optimization_profile_async", self._logger(this)):
            return False
        self.device.require(self.stream_of_context.setdefault(id(this), stream_handle) == stream_handle, "")
        this.double.profile = profile_index
        return True

    def IExecutionContext__infer_shapes(self, this: Any) -> list[str]:  # noqa: N802
        if self._refused("IExecutionContext.infer_shapes", self._logger(this)):
            return ["frames"]
        return [] if this.double.shape else ["frames"]

    def IExecutionContext__get_tensor_shape(self, this: Any, name: str) -> object:  # noqa: N802
        number = this.double.shape[0] if this.double.shape else -1
        shape = self._shape(this.double.engine.double.plan, name, number)
        return self.module.Dims(self.shown_shapes.get(name, shape))

    def IExecutionContext__set_tensor_address(self, this: Any, name: str, memory: int) -> bool:  # noqa: N802
        if self._refused("IExecutionContext.set_tensor_address", self._logger(this)):
            return False
        if name not in this.double.engine.double.plan.names:
            self._say(self._logger(this), f"setTensorAddress: no tensor {name}")
            return False
        this.double.addresses[name] = int(memory)
        return True

    def IExecutionContext__execute_async_v3(self, this: Any, stream_handle: int) -> bool:  # noqa: N802
        device, engine = self.device, this.double.engine
        device.require_active("execute_async_v3")
        if self._refused("IExecutionContext.execute_async_v3", self._logger(this)):
            return False
        plan, shape, addresses = engine.double.plan, this.double.shape, this.double.addresses
        device.require(shape, "execute_async_v3 before set_input_shape")
        device.require(addresses.keys() == set(plan.names), f"execute_async_v3 with addresses of {addresses}")
        device.require(engine.double.has_weights, "execute_async_v3 of an engine without weights")
        stream = device.stream_of(stream_handle)
        device.require(
            self.stream_of_context.setdefault(id(this), stream_handle) == stream_handle,
            "one context on two streams: its scratch memory is shared",
        )
        # The addresses are taken now; the memory behind them is read and written later.
        sizes = {name: math.prod(self._shape(plan, name, shape[0])) for name in plan.names}
        device.require(not any(address % 256 for address in addresses.values()), "a tensor is not aligned")
        buffers = {
            name: device.span_at(addresses[name], sizes[name] * (1 if name == "frames" else 4))
            for name in plan.names
        }
        # Held by its number: a reference would keep alive what must be kept alive by its owner.
        running, profile = this.double.running, this.double.profile

        def run() -> None:
            running.remove(token)
            self.runs.append(shape[0])
            self.profiles.append(profile)
            frames = buffers["frames"].data.reshape(shape)
            action, scene, *_ = BrightnessBackend().infer(frames)
            for name, values in (("action_scores", action), ("scene_scores", scene)):
                if name in buffers:
                    data = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
                    buffers[name].data[:] = data

        token = object()
        running.append(token)
        stream.submit(run, *(buffer.owner for buffer in buffers.values()))
        return True

    # --- weights --------------------------------------------------------------------------------------

    def Refitter____init__(self, this: Any, engine: Any, logger: Any) -> None:  # noqa: N802
        this.double.engine, this.double.logger, this.double.weights = engine, logger, ""

    def Refitter__get_missing_weights(self, this: Any) -> list[str]:  # noqa: N802
        return [] if this.double.weights else ["conv1.weight"]

    def Refitter__refit_cuda_engine(self, this: Any) -> bool:  # noqa: N802
        wanted = this.double.engine.double.plan.weights
        self.device.require(this.double.weights == wanted, "weights of another graph")
        this.double.engine.double.has_weights = True
        return True

    def OnnxParserRefitter____init__(self, this: Any, refitter: Any, logger: Any) -> None:  # noqa: N802
        this.double.refitter = refitter

    def OnnxParserRefitter__refit_from_bytes(  # noqa: N802
        self, this: Any, model: bytes, path: str | None = None
    ) -> bool:
        this.double.refitter.double.weights = hashlib.sha256(model).hexdigest()
        return True

    # --------------------------------------------------------------------------------------------------

    def _refused(self, call: str, logger: Any) -> bool:
        if call not in self.refuse:
            return False
        self._say(logger, self.refuse[call])
        return True

    def _say(self, logger: Any, words: str) -> None:
        logger.log(self.module.ILogger.Severity.ERROR, words)

    def _logger(self, context: Any) -> Any:
        return context.double.engine.double.runtime.double.logger

    def _shape(self, plan: PlanText, name: str, number: int) -> tuple[int, ...]:
        return (number, *plan.frames) if name == "frames" else (number, dict(plan.outputs)[name])

    def _deleted(self, kind: str) -> Any:
        def delete(this: Any) -> None:
            # What keeps these objects alive is what was made of them; so the order is the program's.
            self.alive.remove(kind)
            self.device.log.append(f"delete {kind}")
            self.device.note(not self.device.closed, f"{kind} outlives the hold on the GPU")
            self.device.note(self.device.is_active, f"a {kind} is deleted while the GPU is not active")
            if kind == "IExecutionContext" and self.device.broken is None:
                self.device.note(not this.double.running, "a context is deleted while the GPU runs it")

        return delete


def add_values(module: ContractModule) -> None:
    """Let Dims hold numbers."""

    @module.implements("Dims.__init__")
    def init(this: Any, shape: Any = ()) -> None:
        this.double.shape = tuple(int(number) for number in shape)

    @module.implements("Dims.__len__")
    def length(this: Any) -> int:
        return len(this.double.shape)

    @module.implements("Dims.__getitem__")
    def item(this: Any, arg0: Any) -> object:
        return this.double.shape[arg0]


def plan_for(version: str, **changes: Any) -> PlanText:
    """Return the plan that the tests' bundles hold."""
    return replace(PlanText(version=version), **changes)
