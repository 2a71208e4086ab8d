"""FFmpeg's own decoder in the place of a library's that it prefers but that knows no NVDEC."""

from __future__ import annotations

from pathlib import Path

from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext

from tsm_runtime.backends.cuda.nvdec_engines import decodes
from tsm_runtime.video.convert import display_matrix
from tsm_runtime.video.opening import open_file

NATIVE = {"libdav1d": "av1"}
"""Decoders of libraries, to FFmpeg's own, which decode with NVDEC alone."""


def why_not_native(first: VideoCodecContext, path: Path) -> str:
    """Return the reason why FFmpeg's own decoder cannot be used, or nothing.

    Args:
        first: context of FFmpeg's first choice, whose name is in `NATIVE`; the GPU's context is current.
        path: of the file.
    """
    codec = NATIVE[first.name]
    if not decodes(codec):
        return f"this GPU does not decode {codec}"
    return f"{codec} whose container turns the picture" if _is_turned(path) else ""


def native_decoder(first: VideoCodecContext, accelerator: HWAccel) -> VideoCodecContext:
    """Return the context of FFmpeg's own decoder for the stream of another."""
    made = CodecContext.create(NATIVE[first.name], "r", accelerator)
    context: VideoCodecContext = made  # type: ignore[assignment]  # as the codec is one of video
    if first.extradata:
        context.extradata = first.extradata
    context.options = dict(first.options)
    # PyAV states the GPU's format before the decoder has chosen it; FFmpeg's AV1 then takes it for chosen.
    context.pix_fmt = first.pix_fmt
    return context


def _is_turned(path: Path) -> bool:
    """Return whether the first picture is shown turned, which only the container's own decoder knows."""
    with open_file(path, allow_playlists=True) as container:
        frame = next(container.decode(video=0), None)
        return frame is not None and display_matrix(frame)[1:3] != (0.0, 0.0)
