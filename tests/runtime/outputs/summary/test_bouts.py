"""Seconds, bouts and mean bout of each class, from segments that touch, overlap and are apart."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from fakes import result_of, seg

from tsm_runtime.outputs.summary.bouts import ALL_VIDEOS, NO_ACTION, class_times, times_to_csv
from tsm_runtime.results import Result, Segment


def lasting(seconds: float, *segments: Segment, video_id: str = "v") -> Result:
    return replace(result_of(*segments, video_id=video_id), duration_seconds=seconds)


FIRST = lasting(20, seg("run", 1, 3), seg("run", 3, 4), seg("run", 6, 7), seg("sit", 2, 5))
SECOND = lasting(10, seg("sit", 0, 5), video_id="=w")


def test_segments_that_touch_or_overlap_are_one_bout() -> None:
    found = {row.label: row for row in class_times([FIRST], ["run", "sit", "jump"])}
    assert (found["run"].seconds, found["run"].bouts, found["run"].mean_bout_seconds) == (4.0, 2, 2.0)
    assert (found["sit"].seconds, found["sit"].percent) == (3.0, 15.0)
    assert (found["jump"].seconds, found["jump"].bouts, found["jump"].mean_bout_seconds) == (0.0, 0, None)
    # 0 to 1, 5 to 6 and 7 to 20.
    assert (found[NO_ACTION].seconds, found[NO_ACTION].bouts) == (15.0, 3)


def test_several_videos_are_added_up() -> None:
    rows = {(row.video_id, row.label): row for row in class_times([FIRST, SECOND], [])}
    together = rows[ALL_VIDEOS, "sit"]
    assert (together.seconds, together.bouts, together.duration_seconds) == (8.0, 2, 30.0)
    assert rows[ALL_VIDEOS, NO_ACTION].seconds == 20.0
    assert rows["=w", "run"].seconds == 0.0


def test_the_table_is_plain_and_safe_in_a_spreadsheet() -> None:
    rows = list(csv.DictReader(io.StringIO(times_to_csv(class_times([SECOND], ["jump"])))))
    assert rows[0] == {
        "video": "'=w", "label": "jump", "seconds": "0.0", "percent": "0.0", "bouts": "0", "mean_bout": "",
        "duration": "10.0",
    }  # fmt: skip


def test_a_file_of_unknown_length_lasts_to_its_last_segment() -> None:
    (row, _) = class_times([lasting(0, seg("run", 1, 4))], [])
    assert row.percent == pytest.approx(75.0)
