"""Steps of gpu_day.py about NVDEC: codecs, streams, held frames, and pictures beside those of swscale."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path
from typing import Any

import av
from _gpu_common import REHEARSE, NotHereError, bundles, make_video

from tsm_runtime.backends.cuda.driver import PrimaryContext
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.errors import TsmError
from tsm_runtime.models.nvdec import Nvdec
from tsm_runtime.video.reader import VideoReader

STREAMS = (1, 2) if REHEARSE else (1, 2, 4, 7)
HELD = 100
"""Frames that are held at a time: more than a decoder has surfaces."""


def nvdec() -> dict[str, Any]:
    """Codecs, held frames, and frames per second of several streams."""
    if "cuda" not in av.codec.hwaccel.hwdevices_available():
        raise NotHereError("this PyAV was built without CUDA")
    found: dict[str, Any] = {}
    for codec, pixels in (("libx264", "yuv420p"), ("libx265", "yuv420p10le"), ("libsvtav1", "yuv420p")):
        path = make_video(codec, pixels)
        try:
            found[codec] = {f"fps_{n}": round(_decode(path, n), 1) for n in STREAMS}
        except TsmError as error:
            found[codec] = {"refused": " ".join(str(error).split())[:200]}
    with Nvdec(PrimaryContext(), {}) as decoder:
        found["held_frames"] = _hold(make_video("libx264", "yuv420p"), decoder)
    return found


def _hold(path: Path, decoder: Nvdec) -> int:
    with VideoReader(path, nvdec=decoder) as reader:
        return len([timed.frame for timed in itertools.islice(reader.frames(), HELD)])


def _decode(path: Path, num_streams: int) -> float:
    """Frames per second of some streams that are decoded at the same time."""
    counts = [0] * num_streams
    errors: list[TsmError] = []
    with Nvdec(PrimaryContext(), {}) as decoder:

        def work(number: int) -> None:
            try:
                with VideoReader(path, nvdec=decoder) as reader:
                    counts[number] = sum(1 for _ in reader.frames())
            except TsmError as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(num_streams)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
    if errors:
        raise errors[0]
    return sum(counts) / seconds


def pixels() -> dict[str, Any]:
    """Largest and mean distance of pictures drawn on the GPU from those of swscale, in levels of 255."""
    from tsm_runtime.verification.clip_sets import video_clips
    from tsm_runtime.verification.verify import verify

    found: dict[str, Any] = {}
    for bundle in bundles():
        clips = video_clips(demo_folder() / "video.mp4", bundle.manifest.clip_spec, 4)
        for comparison in verify(bundle, [clips]).comparisons:
            if comparison.pictures is not None:
                found[bundle.path.name] = [comparison.pictures.largest, round(comparison.pictures.mean, 3)]
    if not found:
        raise NotHereError("no bundle has preprocess.onnx")
    return found
