"""Test videos, made by PyAV: plain pictures whose brightness tells the time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

SMOOTH: Mapping[str, str] = {"preset": "ultrafast", "x264-params": "keyint=25:bframes=2:b-adapt=0"}
"""H.264 with B-frames and a key frame every second."""


def plain(color: int | Sequence[int], size: tuple[int, int] = (64, 48)) -> Picture:
    """A (height, width, 3) picture of one RGB colour, or grey of one level; size is (width, height)."""
    return np.zeros((size[1], size[0], 3), np.uint8) + np.array(color, np.uint8)


def corners(size: tuple[int, int] = (64, 64)) -> Picture:
    """White upper left, grey upper right, black below: tells all turns and mirrorings apart."""
    picture = plain(0, size)
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    picture[:height, :width] = 255
    picture[:height, width:] = 128
    return picture


def write_video(
    path: Path,
    pictures: Iterable[Picture],
    *,
    pts: Iterable[int] | None = None,
    rate: int | Fraction = 25,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] = SMOOTH,
    container_format: str | None = None,
    container_options: Mapping[str, str] | None = None,
    color: tuple[str, str] | None = None,
    rotation: tuple[float, bool, bool] | None = None,
    silence_seconds: float = 0.0,
) -> Path:
    """Encode pictures of one size.

    Args:
        path: its suffix chooses the container, unless `container_format` does.
        pictures: (height, width, 3) RGB.
        pts: presentation times in milliseconds; default: evenly by `rate`.
        rate: frames per second, also the nominal one where `pts` are given.
        codec, pixel_format, options: of the video.
        container_format, container_options: of the muxer.
        color: colour space and range by name, as ("ITU709", "JPEG").
        rotation: degrees counter-clockwise, mirrored left-right, mirrored up-down.
        silence_seconds: length of a silent sound stream.
    """
    with av.open(str(path), "w", format=container_format, options=dict(container_options or {})) as container:
        stream = container.add_stream(codec, rate=rate, options=dict(options if codec == "libx264" else {}))
        sound = container.add_stream("aac", rate=8000, layout="mono") if silence_seconds else None
        stream.pix_fmt = pixel_format
        if rotation is not None:
            stream.set_display_rotation(rotation[0], hflip=rotation[1], vflip=rotation[2])
        times = None if pts is None else iter(pts)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = _frame(picture, pixel_format, color)
            frame.pts, frame.time_base = (
                (number, 1 / Fraction(rate)) if times is None else (next(times), Fraction(1, 1000))
            )
            if number == 0 and color is not None:
                stream.codec_context.colorspace = frame.colorspace
                stream.codec_context.color_range = frame.color_range
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            _write_silence(container, sound, silence_seconds)
    return path


def write_levels(path: Path, levels: Iterable[tuple[int, float]], *, rate: int = 25, **more: object) -> Path:
    """Encode plain grey: each level for so many seconds."""
    pictures = (plain(level) for level, seconds in levels for _ in range(round(seconds * rate)))
    return write_video(path, pictures, rate=rate, **more)  # type: ignore[arg-type]


def counted(number: int, step: int = 2) -> Iterable[Picture]:
    """Pictures 0, 1, 2 ... whose grey level is `step` times their number, up to 254."""
    return (plain(min(step * n, 254)) for n in range(number))


def cut(path: Path, share: float) -> Path:
    """Break the file off after a share of its bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def _frame(picture: Picture, pixel_format: str, color: tuple[str, str] | None) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(picture, "rgb24")
    space, range_ = color or (None, None)
    return frame.reformat(format=pixel_format, dst_colorspace=space, dst_color_range=range_)


def _write_silence(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    for number in range(round(seconds * 8000 / 1024)):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 8000, number * 1024
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
