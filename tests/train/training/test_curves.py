"""The picture of a run: which epoch was the best, and a picture of any number of epochs."""

from __future__ import annotations

from tsm_train.training.curves import best_epoch, draw_curves

ROWS = [
    {"epoch": 1.0, "loss": 2.0, "map": 0.0, "scene_top1": 1.0},
    {"epoch": 2.0, "loss": 1.0, "map": 0.4, "scene_top1": 1.0},
    {"epoch": 3.0, "loss": 0.5},
    {"epoch": 4.0, "loss": 0.4, "map": 0.4, "scene_top1": 1.0},
]


def test_of_equal_epochs_the_last_is_the_best() -> None:
    assert best_epoch(ROWS) == 4.0
    assert best_epoch(ROWS[:2]) == 2.0
    assert best_epoch(ROWS[2:3]) is None
    assert best_epoch([]) is None


def test_a_title_is_drawn_whatever_it_holds() -> None:
    pictures = {draw_curves(ROWS[:count], title) for count in (1, 4) for title in ("", "run", r"$\bad$")}
    assert len(pictures) == 6
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
