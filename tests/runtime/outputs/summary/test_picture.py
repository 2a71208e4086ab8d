"""The picture of a time budget: lengths in proportion, by SVG and by Pillow from one drawing."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from fakes import result_of, seg
from PIL import Image

from tsm_runtime.errors import UsageError
from tsm_runtime.outputs.class_colors import LIGHT, color_slots
from tsm_runtime.outputs.summary.bouts import class_times
from tsm_runtime.outputs.summary.picture import draw_time_budget, drawing_to_png, drawing_to_svg
from tsm_runtime.outputs.summary.sink import SummarySink, check_summary
from tsm_runtime.results import Result

RESULT = replace(result_of(seg("run & hide", 0, 5), seg("sit", 8, 10)), duration_seconds=20.0)


def widths(drawing_svg: bytes) -> dict[str, float]:
    root = ElementTree.fromstring(drawing_svg)
    found: dict[str, float] = {}
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        if (title := box.find("{http://www.w3.org/2000/svg}title")) is not None:
            found[str(title.text)] = float(box.attrib["width"])
    return found


def test_parts_are_in_proportion() -> None:
    shares = widths(drawing_to_svg(draw_time_budget(class_times([RESULT], []))))
    assert shares == {"run & hide: 5.0 s, 25.0 %": 160.0, "sit: 2.0 s, 10.0 %": 64.0}  # of 640


def test_overlapping_classes_share_the_time_that_they_cover() -> None:
    both = replace(result_of(seg("a", 0, 10), seg("b", 0, 10)), duration_seconds=20.0)
    shares = widths(drawing_to_svg(draw_time_budget(class_times([both], []))))
    assert set(shares.values()) == {160.0}


def test_a_png_has_the_same_colours() -> None:
    picture = Image.open(io.BytesIO(drawing_to_png(draw_time_budget(class_times([RESULT], [])))))
    pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    slots = color_slots(["run & hide", "sit"])
    counts = [(pixels == list(bytes.fromhex(LIGHT[slot][1:]))).all(1).sum() for slot in slots.values()]
    assert counts[0] / counts[1] == pytest.approx(2.5, rel=0.1)


def test_every_file_is_written_after_the_results(tmp_path: Path) -> None:
    class Inner:
        def add(self, result: Result) -> None: ...
        def fail(self, video_id: str, reason: str) -> None: ...
        def close(self) -> None:
            assert not list(tmp_path.iterdir())

    files = [tmp_path / name for name in ("s.csv", "s.svg", "s.PNG")]
    sink = SummarySink(Inner(), files, ["jump"])
    sink.add(RESULT)
    sink.close()
    assert "jump" in files[0].read_text()
    assert all(path.stat().st_size for path in files)
    with pytest.raises(UsageError, match=r"--summary .*s\.txt: expected a name that ends in \.csv, \.svg"):
        check_summary([tmp_path / "s.txt"], [], None)
    with pytest.raises(UsageError, match="names a file twice"):
        check_summary([files[0], files[0]], [], None)
