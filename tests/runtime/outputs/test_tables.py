"""Tables on the terminal, and found segments beside the true ones."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from fakes import result_of, seg
from rich.console import Console

from tsm_runtime.evaluation.protocol import evaluate
from tsm_runtime.outputs.table import align_segments, print_comparison, print_table
from tsm_runtime.results import SceneScore, Segment


def printed(encoding: str = "utf-8") -> tuple[Console, io.BytesIO]:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    return Console(file=stream, width=100, force_terminal=False), raw


def words_of(raw: io.BytesIO) -> list[list[str]]:
    lines = raw.getvalue().decode().splitlines()
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]


def test_the_table_shows_segments_scene_and_warnings() -> None:
    console, raw = printed()
    scenes = (SceneScore(label="lawn", score=0.2), SceneScore(label="yard", score=0.8))
    found = result_of(seg("hug", 59.999, 75.5, 0.25), seg("kick", 80, 81), scenes=scenes)
    print_table([replace(found, warnings=("broke off at 81 s",))], console)
    assert words_of(raw) == [
        ["hug", "1:00.00", "1:15.50", "15.50", "0.25"],
        ["kick", "1:20.00", "1:21.00", "1.00", "1.00"],
    ]
    text = raw.getvalue().decode()
    assert "scene: yard (0.80)" in text
    assert "warning: broke off at 81 s" in text


def test_an_empty_result_says_so() -> None:
    console, raw = printed()
    print_table([result_of()], console)
    assert words_of(raw) == [["(no action)", "", "", "", ""]]


def test_labels_are_text_not_markup_nor_control_codes() -> None:
    console, raw = printed()
    odd = result_of(
        seg("[bold]x[/bold]", 0, 1),
        seg("\x1b[31mred", 1, 2),
        video_id="[/]v",
        scenes=(SceneScore(label="[link=x]", score=1.0),),
    )
    print_table([replace(odd, warnings=("[/nothing]",))], console)
    print_comparison(odd, [seg("[/]", 0, 1)], None, console)
    text = raw.getvalue().decode()
    for label in ("[bold]x[/bold]", "[/]v", "[link=x]", "warning: [/nothing]", "�[31mred"):
        assert label in text
    assert "\x1b" not in text


def test_a_stream_that_cannot_encode_a_label_is_no_failure() -> None:
    console, raw = printed("ascii")
    print_table([result_of(seg("Grüße \udcff", 0, 1))], console)
    assert b"Gr??e ?" in raw.getvalue()


def test_the_comparison_puts_the_true_segment_beside_the_found_one() -> None:
    console, raw = printed()
    found = result_of(seg("hug", 3, 7.5, 0.5), seg("wave", 20, 21, 0.25))
    truth = [seg("kick", 30, 31), seg("hug", 2, 7)]
    print_comparison(found, truth, evaluate({"clip": truth}, {"clip": found.segments}), console)
    assert words_of(raw) == [
        ["hug", "0:03.00", "0:07.50", "0.50", "hug", "0:02.00", "0:07.00", "0.73"],
        ["wave", "0:20.00", "0:21.00", "0.25", "", "", "", ""],
        ["", "", "", "", "kick", "0:30.00", "0:31.00", ""],
    ]
    assert raw.getvalue().decode().endswith("mAP % @0.50 50.0  @0.75 0.0  @0.95 0.0  average 16.7\n")


A, B = seg("a", 0, 4), seg("a", 4, 8)


@pytest.mark.parametrize(
    ("found", "true", "expected"),
    [
        pytest.param([], [], [], id="nothing"),
        pytest.param([A], [A], [(A, A)], id="same"),
        pytest.param([A], [B], [(A, None), (None, B)], id="touching is no overlap"),
        pytest.param([B, A], [A, B], [(A, A), (B, B)], id="order of time"),
        pytest.param([A, seg("a", 0, 3)], [A], [(seg("a", 0, 3), None), (A, A)], id="duplicate stands alone"),
        pytest.param(
            [A],
            [seg("b", 0, 4), seg("a", 3, 8)],
            [(A, seg("a", 3, 8)), (None, seg("b", 0, 4))],
            id="label first",
        ),
        pytest.param([A], [seg("b", 1, 4)], [(A, seg("b", 1, 4))], id="wrong label beside"),
    ],
)
def test_align_segments(
    found: list[Segment], true: list[Segment], expected: list[tuple[Segment | None, Segment | None]]
) -> None:
    assert align_segments(found, true) == expected
