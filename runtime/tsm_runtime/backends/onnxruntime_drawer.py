"""`preprocess.onnx` on onnxruntime's CUDA provider: NVDEC's planes in, a picture out, all on the GPU."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from av import VideoFrame

from tsm_runtime.backends.base import run_failure
from tsm_runtime.backends.cuda.planes import Planes
from tsm_runtime.video.preprocess import PREPROCESS_MODEL, PictureView, sample_bytes


class OnnxruntimeDrawer:
    """Draws pictures with a session over `preprocess.onnx`; any thread may call `draw`.

    Args:
        session: on the GPU.
        device: number of the GPU.
        name: of what runs it, for errors.
    """

    def __init__(self, session: Any, device: int, name: str) -> None:
        self._session, self._device, self._name = session, device, name
        self._binding = session.io_binding()
        self._shape = tuple(session.get_outputs()[0].shape[1:])
        self._lock = threading.Lock()
        self.takes_several = not isinstance(session.get_outputs()[0].shape[0], int)
        names = [given.name for given in session.get_inputs()]
        self._is_old = "sample_bytes" not in names

    def refusal(self, frame: VideoFrame) -> str | None:
        """Say why a picture of NVDEC cannot be drawn, or return None."""
        if self._is_old and sample_bytes(frame) != 1:
            return f"the bundle's {PREPROCESS_MODEL} is of a time when it took 8 bits only; export it again"
        return None

    def draw(self, pictures: Sequence[Planes], view: PictureView, address: int) -> None:
        """Write pictures one after another to an address on the GPU, and wait until they are there.

        A run of onnxruntime ends with waiting for its own stream, so nothing waits for the whole device.

        Args:
            pictures: planes on the GPU; of several pictures side by side where `takes_several`.
            view: of all.
            address: of the first.

        Raises:
            RunError: onnxruntime failed.
        """
        with self._lock:
            try:
                for planes in pictures:
                    self._draw(planes, view, address)
                    address += planes.num_pictures * math.prod(self._shape)
            except Exception as error:  # onnxruntime's exceptions share no base class below Exception
                raise run_failure(self._name, 1, error) from error

    def _draw(self, planes: Planes, view: PictureView, address: int) -> None:
        binding, inputs = self._binding, view.inputs()
        if self._is_old:
            del inputs["sample_bytes"]
        for name, (rows, row_bytes) in planes.shapes.items():
            shape: tuple[int, ...] = (planes.num_pictures, rows, row_bytes)
            if self._is_old and name == "uv":
                shape = (1, rows, row_bytes // 2, 2)
            binding.bind_input(name, "cuda", self._device, np.uint8, shape, planes.addresses[name])
        for name, value in inputs.items():
            binding.bind_cpu_input(name, value)
        shape = (planes.num_pictures, *self._shape)
        binding.bind_output("frames", "cuda", self._device, np.uint8, shape, address)
        self._session.run_with_iobinding(binding)
