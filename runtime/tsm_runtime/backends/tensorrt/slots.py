"""The buffers of one batch in flight."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.cuda.device_clips import DeviceClips
from tsm_runtime.backends.cuda.memory import ALIGNMENT, DeviceEvent, DeviceMemory, DeviceStream, PinnedBuffer
from tsm_runtime.backends.tensorrt.plan import INPUT, TensorShapes


class _Freeable(Protocol):
    def free(self) -> None: ...


_Taken = TypeVar("_Taken", bound=_Freeable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Page-locked host memory and GPU memory for the largest batch; free again after `done`.

    Args:
        frames: (most, T, size, size, 3) uint8.
        outputs: name to (most, ...) float32.
        addresses: tensor name to its memory on the GPU.
        uploaded: marked when the frames are on the GPU.
        done: marked when the outputs are back.
    """

    frames: PinnedBuffer
    outputs: Mapping[str, PinnedBuffer]
    addresses: Mapping[str, int]
    uploaded: DeviceEvent
    done: DeviceEvent

    def upload(
        self,
        clips: npt.NDArray[np.uint8],
        least: int,
        memory: DeviceMemory,
        copies: DeviceStream,
        *,
        in_place: bool = False,
    ) -> int:
        """Submit the copy of some clips to the GPU, filled up with black ones to the fewest that may be run.

        Args:
            clips: (N, T, size, size, 3), 1 <= N <= most; may be overwritten when this returns.
            least: fewest clips that may be run.
            memory: of the GPU.
            copies: the stream to submit to.
            in_place: copy them from where they are, page-locked memory that stays as it is until then; where
                there are enough of them.

        Returns:
            The number of clips to run.
        """
        num_clips = max(len(clips), least)
        if in_place and num_clips == len(clips):
            memory.upload(self.addresses[INPUT], clips, copies)
            self.uploaded.record(copies)
            return num_clips
        self.frames.array[: len(clips)] = clips
        self.frames.array[len(clips) : num_clips] = 0
        memory.upload(self.addresses[INPUT], self.frames.array[:num_clips], copies)
        self.uploaded.record(copies)
        return num_clips

    def place(
        self, clips: DeviceClips, least: int, memory: DeviceMemory, copies: DeviceStream
    ) -> tuple[int, Mapping[str, int]]:
        """Let clips that are on the GPU be read where they lie, or submit their copy into the slot.

        They are copied where they are too few, or lie where no tensor may. The padding is
        the previous content of the slot: any bytes are valid pixels, and its scores are not read.

        Args:
            clips: (N, T, size, size, 3), 1 <= N <= most, complete; left as they are until `done`.
            least: fewest clips that may be run.
            memory: of the GPU.
            copies: the stream to submit to.

        Returns:
            The number of clips to run, and `addresses` as they are for this call.
        """
        num_clips, addresses = max(len(clips), least), dict(self.addresses)
        if num_clips == len(clips) and clips.address % ALIGNMENT == 0:
            addresses[INPUT] = clips.address
        else:
            memory.copy(addresses[INPUT], clips.address, clips.nbytes, copies)
        self.uploaded.record(copies)
        return num_clips, addresses

    def download(self, num_clips: int, memory: DeviceMemory, work: DeviceStream) -> None:
        """Submit the copies of the outputs to the host."""
        for name, output in self.outputs.items():
            memory.download(output.array[:num_clips], self.addresses[name], work)
        self.done.record(work)

    def fetch(self, num_clips: int) -> dict[str, npt.NDArray[np.float32]]:
        """Wait for the outputs and return them, as views that are good until the slot is used again."""
        self.done.synchronize()
        return {name: output.array[:num_clips] for name, output in self.outputs.items()}


def hold(held: ExitStack, taken: _Taken) -> _Taken:
    """Register a resource with `held`, which releases it, and return it."""
    held.callback(taken.free)
    return taken


def make_slot(memory: DeviceMemory, shapes: TensorShapes, held: ExitStack) -> Slot:
    """Take the memory of one slot; `held` gives it back, that of the GPU first.

    Raises:
        DeviceError: there is not enough.
    """
    most = shapes.most
    sizes: dict[str, tuple[tuple[int, ...], Any]] = {INPUT: ((most, *shapes.frames), np.uint8)}
    sizes |= {name: ((most, *shape), np.float32) for name, shape in shapes.outputs.items()}
    events = [hold(held, memory.event()) for _ in range(2)]
    pinned = {name: hold(held, memory.pin(shape, dtype)) for name, (shape, dtype) in sizes.items()}
    addresses = {name: hold(held, memory.allocate(p.array.nbytes)).address for name, p in pinned.items()}
    frames = pinned.pop(INPUT)
    return Slot(frames=frames, outputs=pinned, addresses=addresses, uploaded=events[0], done=events[1])
