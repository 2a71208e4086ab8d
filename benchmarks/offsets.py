r"""How exactly `tsm-offsets` places recordings of one scene, and whether it leaves others unplaced.

Real videos (the panoramic and the binocular ones of 360+x) are joined to long recordings, and pairs are cut
from them at known shifts: other gain, codec, sample and frame rate, white noise, and speeds that differ by up
to 0.1 %; with sound and without. Unrelated pairs come from recordings of different scenes. The thresholds
in `tsm_runtime.captures.matching` were chosen on the half `--part choose`; `--part judge` has others.

How to read it: `within_40_ms` is the share of all related pairs, those not found count against it; `wrong`
are offsets given that are more than 40 ms off; `false` are offsets given to unrelated pairs.

    python benchmarks/offsets.py ../shared/data/x360 --part judge
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path
from typing import Any

from _common import store
from _offset_pairs import Case, Footage, draw_case, join, moved, write_reference, write_video

from tsm_runtime.captures.matching.match import Recording, match

PARTS = {"choose": 0, "judge": 1}
KINDS = {"sound": 2, "picture": 1}


def main() -> None:
    """Make pairs, place them, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("x360", type=Path, help="folder with panoramic/ and binocular/")
    parser.add_argument("--part", choices=[*PARTS, "both"], default="judge")
    parser.add_argument("--pairs", type=int, default=60, help="with sound; half as many without")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    parts = PARTS if options.part == "both" else [options.part]
    kinds = {kind: KINDS[kind] * options.pairs // 2 for kind in options.kinds}
    store("offsets", {part: measure_part(options.x360, part, kinds) for part in parts})


def measure_part(x360: Path, part: str, kinds: dict[str, int]) -> dict[str, Any]:
    """Return figures and rows of one half of the scenes."""
    ids = sorted(path.stem for path in (x360 / "panoramic").iterdir())[PARTS[part] :: 2]
    footage = [
        join([x360 / "panoramic" / f"{one}.mp4" for one in ids]),
        join([x360 / "binocular" / one / "clip1.mp4" for one in ids]),
    ]
    # The scenes of both change every ten seconds: moved, so that no cut is at the same time in both.
    elsewhere = [moved(each, 3.7) for each in reversed(footage)]
    rows = []
    for kind, count in kinds.items():
        has_sound, rng = kind == "sound", random.Random(f"{part} {kind}")
        for number in range(count):
            overlap = 10.0 if number % 2 == 0 else rng.uniform(10.0, 25.0)
            case = draw_case(rng, footage[0].seconds, has_sound=has_sound, overlap=overlap)
            rows.append({"kind": kind, **place(footage[number % 2], footage[number % 2], case)})
        for number in range(count):
            case = draw_case(rng, footage[0].seconds, has_sound=has_sound, overlap=10.0)
            rows.append(
                {"kind": f"unrelated {kind}", **place(footage[number % 2], elsewhere[number % 2], case)}
            )
    return {"figures": {kind: figures(rows, kind) for kind in kinds}, "rows": rows}


def place(of_reference: Footage, of_video: Footage, case: Case) -> dict[str, Any]:
    """Write a pair, look for the offset, and return one row."""
    with tempfile.TemporaryDirectory() as folder:
        reference, video = Path(folder) / "reference.mkv", Path(folder) / "video.mkv"
        write_reference(reference, of_reference, case)
        write_video(video, of_video, case)
        found = match(Recording(reference), Recording(video))
    row = {
        "shift": round(case.shift, 3),
        "overlap": round(case.overlap, 1),
        "speed": case.speed,
        "snr_db": case.snr_db,
        "gain": case.gain,
        "codec": case.codec[0],
    }
    if found is not None:
        row |= {
            "error_ms": round(1000 * (found.offset_seconds - case.shift), 1),
            "confidence": round(found.confidence, 3),
            "found": found.is_certain,
            "by": found.by,
        }
    print(row, flush=True)
    return row


def figures(rows: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the shares of a kind of pairs."""
    related = [row for row in rows if row["kind"] == kind]
    found = [row for row in related if row.get("found")]
    unrelated = [row for row in rows if row["kind"] == f"unrelated {kind}"]
    return {
        "pairs": len(related),
        "within_40_ms": round(sum(abs(row["error_ms"]) <= 40 for row in found) / len(related), 4),
        "not_found": len(related) - len(found),
        "wrong": sum(abs(row["error_ms"]) > 40 for row in found),
        "unrelated": len(unrelated),
        "false": sum(bool(row.get("found")) for row in unrelated),
        "highest_confidence_of_unrelated": max(
            (row.get("confidence", 0.0) for row in unrelated), default=0.0
        ),
    }


if __name__ == "__main__":
    main()
