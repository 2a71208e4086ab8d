r"""What a window of a panorama costs: crops of the equirectangular picture, and perspective views.

A noise picture is converted to a picture of the model again and again, as decoding does it for each sampled
frame; the smallest of the rounds counts.

How to read it: milliseconds of processor time for one picture, by width of the panorama.

    python benchmarks/windows.py
"""

from __future__ import annotations

import argparse

import av
import numpy as np
from _common import measure, store

from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.crop import Crop

_LOOKS: dict[str, Crop] = {
    "whole": "",
    "equirectangular": "window_right",
    "perspective": "perspective_right",
}


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--widths", type=int, nargs="+", default=[1920, 3840, 5760])
    parser.add_argument("--size", type=int, default=256, help="edge of the model's picture")
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    rows = {
        str(width): {
            name: milliseconds(width, options.size, crop, options.rounds) for name, crop in _LOOKS.items()
        }
        for width in options.widths
    }
    store("windows", {"size": options.size, "milliseconds": rows})


def milliseconds(width: int, size: int, crop: Crop, rounds: int) -> float:
    """Return the processor time of one picture, of a panorama of some width."""
    pixels = np.random.default_rng(0).integers(0, 255, (width // 2, width, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")
    convert = FrameConverter(size, crop)
    return round(1000 * min(measure(lambda: convert(frame), rounds).cpu), 3)


if __name__ == "__main__":
    main()
