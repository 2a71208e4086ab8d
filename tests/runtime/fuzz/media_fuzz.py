"""Decodes mutated videos, by hand for as long as wanted: `media_fuzz.py FILES... --number 5000 --seed 1`.

Each ends in frames or in a VideoError; anything else (another exception, a crash, a hang of more than 20 s)
ends the process with an error that names seed and number. Prints how many ended in what.
"""

from __future__ import annotations

import argparse
import faulthandler
import sys
import tempfile
from collections import Counter
from pathlib import Path

from mutations import mutations

from tsm_runtime.errors import VideoError
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.reader import VideoReader

_HANG_SECONDS = 20
_MOST_FRAMES = 200


def decode(path: Path) -> str:
    """Decode a file as the pipeline does; return how it ended."""
    convert = FrameConverter(32)
    try:
        with VideoReader(path) as reader:
            for number, timed in enumerate(reader.frames(), start=1):
                convert(timed.frame)
                if number == _MOST_FRAMES:
                    return "frames"
            return "frames" if reader.failure is None else "broken off"
    except VideoError:
        return "refused"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for path in arguments.files:
            target = Path(folder) / f"mutated{path.suffix}"
            for data in mutations(path.read_bytes(), arguments.seed, arguments.number):
                target.write_bytes(data)
                faulthandler.dump_traceback_later(_HANG_SECONDS, exit=True)
                outcomes[decode(target)] += 1
                faulthandler.cancel_dump_traceback_later()
    sys.stdout.writelines(f"{name}: {count}\n" for name, count in sorted(outcomes.items()))


if __name__ == "__main__":
    main()
