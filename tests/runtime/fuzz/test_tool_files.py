"""Files of other tools with one value replaced: read, or refused by the package's own error."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tsm_runtime.errors import TsmError
from tsm_runtime.formats.annotations import read_annotations
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.formats.read_write import read_segments

VALUES: tuple[Any, ...] = (None, True, -1, 0, 10**400, 1e308, "", "x", "1", [], [1], {}, {"a": 1}, [[]], [{}])
OPTIONS = ReadOptions(frame_rate=10.0, point_seconds=0.5, first_frame=1)

BORIS = {
    "behaviors_conf": {
        "0": {"type": "State event", "code": "sit"},
        "1": {"type": "Point event", "code": "peck"},
    },
    "observations": {
        "o": {
            "type": "MEDIA",
            "file": {"1": ["a.mp4", "b.mp4"], "2": ["c.mp4"]},
            "time offset": 1.0,
            "events": [[1.5, "", "sit", "", ""], [2.5, "", "sit", "", "score=0.5"], [3, "", "peck", "", ""]],
            "media_info": {"length": {"a.mp4": 10.0, "b.mp4": 5}, "offset": {"2": 1.5}},
        }
    },
}
LABEL_STUDIO = [
    {
        "id": 1,
        "data": {"video": "a.mp4", "fps": 25},
        "annotations": [
            {
                "result": [
                    {
                        "type": "timelinelabels",
                        "score": 0.5,
                        "value": {"ranges": [{"start": 1, "end": 9}], "timelinelabels": ["run"]},
                    },
                    {"type": "labels", "value": {"start": 1.5, "end": 2, "labels": ["clap"]}},
                ]
            }
        ],
        "predictions": [],
        "meta": {},
    },
    {"video": "b.mp4", "l": [{"ranges": [{"start": 1, "end": 9}], "timelinelabels": ["run"]}]},
]
VIA2 = {
    "_via_img_metadata": {
        "k": {
            "filename": "a_1.jpg",
            "size": 1,
            "regions": [{"shape_attributes": {}, "region_attributes": {"action": {"run": True}}}],
            "file_attributes": {"action": "sit"},
        }
    }
}


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """Paths to all values inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (key,)
        yield from ((key, *more) for more in places(inner))


def replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    changed = copy.deepcopy(value)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = new
    return changed


def read_both_ways(path: Path) -> None:
    for read in (
        lambda: read_segments(path, options=OPTIONS),
        lambda: read_annotations(path, options=OPTIONS),
        lambda: read_annotations(path, options=OPTIONS, faults=[]),
    ):
        with suppress(TsmError):
            read()


@pytest.mark.parametrize("original", [BORIS, LABEL_STUDIO, VIA2], ids=["boris", "label-studio", "via2"])
def test_a_value_of_another_kind(tmp_path: Path, original: Any) -> None:
    path = tmp_path / "f.json"
    path.write_text(json.dumps(original))
    read_both_ways(path)
    for place in places(original):
        for value in VALUES:
            path.write_text(json.dumps(replaced(original, place, value)))
            read_both_ways(path)


TEXTS = {
    "t.csv": (
        "Observation id,Subject,Behavior,Behavior type,Start (s),Stop (s),Media file name\n"
        "o,,sit,STATE,1,2,a.mp4\n"
    ),
    "t.tsv": (
        "Time\tMedia file path\tSubject\tBehavior\tStatus\n1\ta.mp4\ts\tsit\tSTART\n2\ta.mp4\ts\tsit\tSTOP\n"
    ),
    "c.xml": (
        "<annotations><meta><task><id>1</id><start_frame>2</start_frame>"
        "<frame_filter>step=2</frame_filter></task></meta>"
        '<track id="0" label="p"><box frame="1" outside="0"/><box frame="9" outside="1"/></track>'
        '<image id="3"><tag label="x"/></image></annotations>'
    ),
    "f.txt": "background\nrun\nrun\n",
    "h.csv": ",background,run\n0,1,0\n1,0,1\n",
    "D_val.txt": "video_1 1.0 2.0\n",
    "e.csv": "video_id,start_timestamp,stop_timestamp,verb,noun\nv,00:00:01.5,00:00:02,take,cup\n",
}
PIECES = (
    "",
    "x",
    "-1",
    "nan",
    "inf",
    "9" * 400,
    "1e400",
    "\u0663",
    "\x00",
    ",",
    "\t",
    '"',
    "<",
    "\n\n",
    "1:2:3:4",
)


@pytest.mark.parametrize("name", TEXTS)
def test_a_piece_of_text_replaced(tmp_path: Path, name: str) -> None:
    path, text = tmp_path / name, TEXTS[name]
    path.write_text(text)
    read_both_ways(path)
    for start in range(0, len(text), 3):
        for length in (0, 1, 4):
            for piece in PIECES:
                path.write_text(text[:start] + piece + text[start + length :])
                read_both_ways(path)
