"""Decoding with NVDEC: frames stay on the GPU and are converted to clips there.

Nothing here ran on a GPU for a release: tests put real NV12 pictures of the host's memory in the place of
NVDEC's, and doubles in that of CUDA's libraries.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
from av import VideoFrame
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from tsm_runtime.backends.cuda.device_clips import DeviceClips, new_clips
from tsm_runtime.backends.cuda.driver import PrimaryContext
from tsm_runtime.backends.cuda.nvdec_engines import num_engines
from tsm_runtime.backends.cuda.planes import Planes, copies_into
from tsm_runtime.clips.pool import FramePool
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import VideoError
from tsm_runtime.models.native_decoder import NATIVE, native_decoder, why_not_native
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.crop import Crop
from tsm_runtime.video.hardware import hidden_border
from tsm_runtime.video.preprocess import PREPROCESS_MODEL, PictureView, sample_bytes, view_of

_log = logging.getLogger("tsm_runtime")


class Drawer(Protocol):
    """Runs `preprocess.onnx` on the GPU; any thread may call it."""

    def refusal(self, frame: VideoFrame) -> str | None:
        """Return the reason why a frame of NVDEC cannot be drawn, or None."""
        ...

    takes_several: bool
    """Whether the planes of several pictures that lie side by side are drawn at once."""

    def draw(self, pictures: Sequence[Planes], view: PictureView, address: int) -> None:
        """Write pictures to an address on the GPU, one after another, and wait for all of them."""
        ...


_MOST_TOGETHER = 16
"""Pictures of one call; their planes are copied side by side."""


@dataclass(frozen=True, slots=True)
class _GpuPicture:
    """A frame on the GPU that will be drawn into a clip."""

    nvdec: Nvdec
    size: int
    planes: Planes
    view: PictureView
    frame: VideoFrame
    """Keeps the planes."""

    @property
    def kind(self) -> Hashable:
        view = tuple(value.tobytes() for value in self.view.inputs().values())
        return self.size, tuple(self.planes.shapes.items()), view

    def draw(self, following: Sequence[_GpuPicture], address: int) -> None:
        pictures = [self.planes, *(picture.planes for picture in following)]
        self.nvdec.draw(pictures, self.view, self.size, address)


class _Converter:
    """Counterpart of `FrameConverter`: draws frames on the GPU, converts others on the CPU."""

    def __init__(self, nvdec: Nvdec, decoder: VideoCodecContext, size: int, crop: Crop) -> None:
        self._nvdec, self._decoder, self._size, self._crop = nvdec, decoder, size, crop
        self._on_cpu = FrameConverter(size, crop)
        self._has_warned = False

    def __call__(self, frame: VideoFrame) -> _GpuPicture | npt.NDArray[np.uint8]:
        drawer = self._nvdec.drawers[self._size]
        reason = _why_not(frame) or drawer.refusal(frame)
        hidden = hidden_border(frame, self._decoder) if is_on_gpu(frame) else (0, 0)
        if reason is None:
            view = view_of(frame, self._size, self._crop, hidden)
            return _GpuPicture(self._nvdec, self._size, Planes.of(frame), view, frame)
        if any(hidden):
            raise VideoError(
                f"{reason}; as the pictures are cropped at left or top, --hwdec none decodes them"
            )
        if not self._nvdec.may_fall_back:
            raise VideoError(f"{reason}; --hwdec auto converts such pictures on the CPU")
        if not self._has_warned:
            self._has_warned = True
            _log.warning(f"--hwdec auto: pictures are converted on the CPU: {reason}")
        return self._on_cpu(frame)


class Nvdec:
    """Decoder on a GPU for models that run there; several videos may be decoded at a time.

    Close it after the models' last batch.

    Args:
        context: context of the GPU.
        drawers: drawers by picture size.
        may_fall_back: decode and convert on the CPU what the GPU does not support, with a warning.
    """

    def __init__(
        self,
        context: PrimaryContext,
        drawers: Mapping[int, Drawer],
        *,
        may_fall_back: bool = False,
    ) -> None:
        self.context, self.drawers, self.may_fall_back = context, drawers, may_fall_back
        self._clips: list[Any] = []
        self._side_by_side = FramePool(make=self._new_clips)

    @property
    def num_engines(self) -> int | None:
        """Return how many engines decode; None: the driver does not report it."""
        with self.context.current():
            return num_engines()

    def accelerator(self) -> HWAccel:
        """Return what `av.open` takes, within `context.current()`."""
        return HWAccel(
            device_type="cuda",
            device=self.context.device,
            allow_software_fallback=True,  # `prepare` and the converter report the fallback
            # The current context is the primary one; requested by name, FFmpeg refuses a context with other
            # flags than its own (EOPNOTSUPP).
            options={"primary_ctx": "0", "current_ctx": "1"},
            is_hw_owned=True,
        )

    def prepare(self, stream: VideoStream, path: Path | str, trouble: str = "") -> VideoCodecContext:
        """Set how an opened stream is decoded, or say that it is decoded on the CPU.

        Args:
            stream: of an open container.
            path: of the file.
            trouble: what FFmpeg said when it could not use the GPU for it.

        Returns:
            The stream's context, or that of a decoder that uses NVDEC in the place of FFmpeg's first choice.

        Raises:
            VideoError: NVDEC does not support this codec, and the CPU is not allowed.
        """
        context: VideoCodecContext = stream.codec_context
        reason = f"FFmpeg cannot use the GPU ({trouble})" if trouble else ""
        if not reason and context.name in NATIVE:
            with self.context.current():
                reason = why_not_native(context, Path(path))
                context = context if reason else native_decoder(context, self.accelerator())
        if context.is_hwaccel:
            # NVDEC does the work; each thread would hold surfaces. Frames that wait for their clip hold none:
            # FFmpeg 8 copies pictures into a pool that grows.
            context.thread_count = 1
            return context
        reason = f"{path}: {reason or f'FFmpeg has no NVDEC for {context.name}'}"
        if not self.may_fall_back:
            raise VideoError(f"{reason}; --hwdec auto decodes such files on the CPU")
        _log.warning(f"--hwdec auto: decodes on the CPU: {reason}")
        return context

    def converter(self, decoder: VideoCodecContext, size: int, crop: Crop) -> _Converter:
        """Return what makes pictures of the frames of a decoder, for one video."""
        return _Converter(self, decoder, size, crop)

    def draw(self, pictures: Sequence[Planes], view: PictureView, size: int, address: int) -> None:
        """Draw pictures of one size, one after another, to an address on the GPU, and wait for them.

        Args:
            pictures: one each; the decoder may still be at work on them.
            view: of all.
            size: of the drawn pictures.
            address: of the first.
        """
        drawer, step = self.drawers[size], size * size * 3
        if len(pictures) == 1 or not drawer.takes_several:
            self.context.wait_for_decoder()
            drawer.draw(pictures, view, address)
            return
        for start in range(0, len(pictures), _MOST_TOGETHER):
            part = pictures[start : start + _MOST_TOGETHER]
            shapes = {name: (len(part), *shape) for name, shape in part[0].shapes.items()}
            held: dict[str, Any] = {name: self._side_by_side.take(shape) for name, shape in shapes.items()}
            addresses = {name: memory.address for name, memory in held.items()}
            self.context.copy(copies_into(addresses, part))
            drawer.draw([Planes(len(part), part[0].shapes, addresses)], view, address + start * step)
            for memory in held.values():
                self._side_by_side.give(memory)

    def memory(self, specs: Sequence[ClipSpec]) -> dict[ClipSpec, FramePool]:
        """Return pools of clips on the GPU."""
        return {spec: FramePool(make=self._new_clips) for spec in specs}

    def close(self) -> None:
        """Release all memory; further calls do nothing."""
        while self._clips:
            self._clips.pop().free()
        self.context.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _new_clips(self, shape: tuple[int, ...]) -> Any:
        clips: DeviceClips = new_clips(shape, self.context)
        self._clips.append(clips)
        return clips


def is_on_gpu(frame: VideoFrame) -> bool:
    """Return whether a frame is in CUDA memory."""
    return frame.format.name == "cuda"


def _why_not(frame: VideoFrame) -> str | None:
    """Return the reason why a frame cannot be drawn on the GPU, or None."""
    if not is_on_gpu(frame):
        return "NVDEC does not take this stream, FFmpeg decodes it on the CPU"
    if frame.interlaced_frame:
        return f"interlaced pictures, whose fields {PREPROCESS_MODEL} does not resize apart as swscale does"
    if sample_bytes(frame) is not None:
        return None
    kind = frame.sw_format.name if frame.sw_format is not None else "unknown"
    return f"{PREPROCESS_MODEL} takes 4:2:0 of 8, 10 or 12 bits (NV12, P010, P016), not {kind}"
