"""The printed table of an ablation, from the stored one of UT-Interaction."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from tsm_train.ablation.plot import cross_validated_map, draw_table
from tsm_train.ablation.table import Table
from tsm_train.ablation.terminal_table import table_to_text

STORED = Path(__file__).resolve().parents[3] / "benchmarks/results/ablation_ut/table.json"


@pytest.fixture
def table() -> Table:
    content = json.loads(STORED.read_text())
    del content["paper_source"], content["paper_notes"]
    return msgspec.convert(content, Table)


def test_rows_differences_and_notes(table: Table) -> None:
    lines = table_to_text(table).decode().splitlines()
    assert lines[0] == "ablation-ut: 4 videos of 'validation', 24 instances of 6 actions"
    (row,) = (line.split() for line in lines if line.strip().startswith("multi-t1.0 "))
    assert row[1:] == ["41.6", "87.5", "35.8", "1.4", "+8.0", "+1.7", "+14.2", "100.0", "11.3"]
    assert any("(in sample)" in line for line in lines)
    assert sum(line.startswith("- ") for line in lines) == len(table.notes)
    assert not any("paper" in line for line in lines)


def test_rows_of_the_paper_are_shown_where_an_ablation_names_them(table: Table) -> None:
    first = msgspec.structs.replace(table.rows[0], paper=table.paper[0])
    text = table_to_text(msgspec.structs.replace(table, rows=(first, *table.rows[1:]))).decode()
    assert "The paper's rows" in text
    assert "18.7" in text


def test_the_picture_has_the_cross_validated_score_of_a_fitted_ensemble(table: Table) -> None:
    scores = {row.name: cross_validated_map(row) for row in table.rows}
    assert scores.pop("ensemble-fitted") == pytest.approx(0.494, abs=5e-4)
    assert set(scores.values()) == {None}
    without = tuple(row for row in table.rows if row.name != "ensemble-fitted")
    pictures = [draw_table(each) for each in (table, msgspec.structs.replace(table, rows=without))]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
