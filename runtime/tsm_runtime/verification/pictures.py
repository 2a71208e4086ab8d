"""Pictures that `--hwdec` gives of a video, made without a GPU: `preprocess.onnx` on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from av import VideoFrame

from tsm_runtime.backends.onnxruntime import describe_session, open_session
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.errors import BundleError
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.crop import Crop
from tsm_runtime.video.preprocess import PREPROCESS_MODEL, view_of

MOST_LEVELS = 2.0
"""Tolerance of the mean difference, in levels of 255. Measured: 0.3 to 1.0, the latter with saturated full
range; a wrong matrix or a shift by a pixel gives 3 and more."""

_EIGHT_BITS = frozenset({"yuv420p", "yuvj420p"})
_MORE_BITS = frozenset({"yuv420p10le", "yuv420p12le"})

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureDifference:
    """Difference of pictures from those of the CPU, in levels of 0 to 255.

    Args:
        mean: mean over all bytes of all clips.
        largest: largest difference of a byte.
        num_drawn: number of pictures that the graph made.
        num_others: number of pictures that the CPU also makes with `--hwdec`; they do not differ.
    """

    mean: float
    largest: int
    num_drawn: int
    num_others: int

    @classmethod
    def of(cls, first: Picture, second: Picture, num_drawn: int, num_others: int) -> PictureDifference:
        """Compare clips of one shape."""
        if first.shape != second.shape:
            raise ValueError(f"expected equal shapes, got {first.shape} and {second.shape}")
        total = largest = 0
        for one, other in zip(first, second, strict=True):  # clip by clip: int16 takes twice the memory
            apart = np.abs(one.astype(np.int16) - other)
            total, largest = total + int(apart.sum()), max(largest, int(apart.max()))
        return cls(mean=total / first.size, largest=largest, num_drawn=num_drawn, num_others=num_others)

    def problem(self) -> str | None:
        """Return a description of a difference beyond tolerance, or None."""
        if self.mean <= MOST_LEVELS:
            return None
        return f"pictures: {self.mean:.2f} levels off on the mean, allowed is {MOST_LEVELS:g}"


class PictureGraph:
    """A bundle's `preprocess.onnx` on onnxruntime's CPU provider, with counts of its use.

    Args:
        bundle: a bundle with that file.
        num_threads: threads on the CPU; default: all cores.

    Raises:
        BundleError: the file is missing, altered, does not load, or is from before 10 bits.
        BackendError: onnxruntime is not installed.
    """

    def __init__(self, bundle: Bundle, num_threads: int | None = None) -> None:
        self._session = open_session(bundle, PREPROCESS_MODEL, num_threads=num_threads)
        if "sample_bytes" not in {given.name for given in self._session.get_inputs()}:
            raise BundleError(
                f"{bundle.path}: {PREPROCESS_MODEL} is of a time when it took 8 bits only; export it again"
            )
        self.name = describe_session(bundle, PREPROCESS_MODEL)
        self.num_drawn = self.num_others = 0

    def converter(self, size: int, crop: Crop) -> PictureConverter:
        """Return a converter that replaces `FrameConverter(size, crop)`."""
        return PictureConverter(self, size, crop)

    def draw(self, inputs: dict[str, npt.NDArray[Any]]) -> Picture:
        """Return the (size, size, 3) picture."""
        picture: Picture = self._session.run(["frames"], inputs)[0][0]
        return picture


class PictureConverter:
    """Converts frames as `--hwdec auto` does; frames that NVDEC cannot deliver are converted on the CPU."""

    def __init__(self, graph: PictureGraph, size: int, crop: Crop) -> None:
        self._graph, self._size, self._crop = graph, size, crop
        self._on_cpu = FrameConverter(size, crop)

    def __call__(self, frame: VideoFrame) -> Picture:
        """Return the (size, size, 3) uint8 RGB picture."""
        planes = None if frame.interlaced_frame else planes_of(frame)
        if planes is None:
            self._graph.num_others += 1
            return self._on_cpu(frame)
        self._graph.num_drawn += 1
        return self._graph.draw(view_of(frame, self._size, self._crop).inputs() | planes)


def planes_of(frame: VideoFrame) -> dict[str, npt.NDArray[Any]] | None:
    """Return a frame in host memory as the planes that NVDEC would give, by the graph's names.

    Returns:
        `y` and `uv` (1, rows, bytes) uint8 of NV12, P010 or P016, and `sample_bytes`; None if not 4:2:0.
    """
    if frame.format.name == "nv12":
        y, uv = (_samples(plane, np.uint8) for plane in frame.planes)
    elif frame.format.name in _EIGHT_BITS:
        y, uv = _interleaved(*(_samples(plane, np.uint8) for plane in frame.planes))
    elif frame.format.name in _MORE_BITS:
        shift = 16 - frame.format.components[0].bits
        y, uv = _interleaved(*(_samples(plane, np.uint16) << shift for plane in frame.planes))
    else:
        return None
    sample_bytes = np.array([y.itemsize], np.float32)
    return {"y": y.view(np.uint8)[None], "uv": uv.view(np.uint8)[None], "sample_bytes": sample_bytes}


def _samples(plane: Any, kind: Any) -> npt.NDArray[Any]:
    """Return (rows, samples), including the padding of rows."""
    return np.frombuffer(plane, kind).reshape(-1, plane.line_size // np.dtype(kind).itemsize)


def _interleaved(
    y: npt.NDArray[Any], u: npt.NDArray[Any], v: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    return y, np.stack([u, v], axis=2).reshape(len(u), -1)
