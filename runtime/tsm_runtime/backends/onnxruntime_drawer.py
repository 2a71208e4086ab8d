"""`preprocess.onnx` on onnxruntime's CUDA provider: NVDEC's planes in, a picture out, all on the GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from av import VideoFrame

from tsm_runtime.backends.failures import run_failure
from tsm_runtime.preprocess import PictureView

__all__ = ["OnnxruntimeDrawer"]


class OnnxruntimeDrawer:
    """Draws pictures with a session over `preprocess.onnx`. Used by one thread at a time.

    Args:
        session: on the GPU.
        device: number of the GPU.
        name: of what runs it, for errors.
    """

    def __init__(self, session: Any, device: int, name: str) -> None:
        self._session, self._device, self._name = session, device, name
        self._binding = session.io_binding()
        self._shape = session.get_outputs()[0].shape

    def draw(self, frame: VideoFrame, view: PictureView, address: int) -> None:
        """Write the picture of an NV12 frame on the GPU to an address there, and wait until it is there.

        The planes are read where they lie, with the padding of their rows.

        Raises:
            RunError: onnxruntime broke off.
        """
        binding = self._binding
        try:
            for name, plane, samples in zip(("y", "uv"), frame.planes, ((), (2,)), strict=True):
                pitch = plane.line_size // (2 if samples else 1)
                shape = (1, plane.height, pitch, *samples)
                binding.bind_input(name, "cuda", self._device, np.uint8, shape, plane.buffer_ptr)
            for name, value in view.inputs().items():
                binding.bind_cpu_input(name, value)
            binding.bind_output("frames", "cuda", self._device, np.uint8, self._shape, address)
            binding.synchronize_inputs()
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            raise run_failure(self._name, 1, error) from error
