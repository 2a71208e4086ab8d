"""What `--hwdec` sees of a video, made without a GPU: pictures of `preprocess.onnx` on the CPU."""

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
"""Mean difference of a level, of 255, from which on something is wrong: seen is 0.3 to 1.0, the latter where
full range is saturated; a wrong matrix or a shift by a pixel gives 3 and more."""

_EIGHT_BITS = frozenset({"yuv420p", "yuvj420p"})
_MORE_BITS = frozenset({"yuv420p10le", "yuv420p12le"})

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureDifference:
    """How far pictures are from those of the CPU, in levels of 0 to 255.

    Args:
        mean: over all bytes of all clips.
        largest: of a byte.
        num_drawn: pictures that the graph made.
        num_others: pictures that a GPU would not draw either; they are the CPU's, and differ by nothing.
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
        """Say what is beyond tolerance, or return None."""
        if self.mean <= MOST_LEVELS:
            return None
        return f"pictures: {self.mean:.2f} levels off on the mean, allowed is {MOST_LEVELS:g}"


class PictureGraph:
    """A bundle's `preprocess.onnx` on onnxruntime's CPU provider, and what it was used for.

    Args:
        bundle: with that file.
        num_threads: on the CPU; default: all cores.

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
        """Return what stands where `FrameConverter(size, crop)` does."""
        return PictureConverter(self, size, crop)

    def draw(self, inputs: dict[str, npt.NDArray[Any]]) -> Picture:
        """Return the (size, size, 3) picture."""
        picture: Picture = self._session.run(["frames"], inputs)[0][0]
        return picture


class PictureConverter:
    """Frames to pictures as `--hwdec auto` makes them: what NVDEC does not give out is converted as ever."""

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
    """Return a frame of the host's memory as the planes that NVDEC would give, by the graph's names.

    Returns:
        `y` and `uv` (1, rows, bytes) uint8 of NV12, P010 or P016, and `sample_bytes`; None: it is not 4:2:0.
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
    """Return (rows, samples), the padding of rows included."""
    return np.frombuffer(plane, kind).reshape(-1, plane.line_size // np.dtype(kind).itemsize)


def _interleaved(
    y: npt.NDArray[Any], u: npt.NDArray[Any], v: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    return y, np.stack([u, v], axis=2).reshape(len(u), -1)
