"""Agreement of two annotators, by hand and by scikit-learn's formula."""

from __future__ import annotations

import numpy as np
import pytest

from tsm_serve.review.agreement import agreement, cohens_kappa

FRAMES = [k / 10 for k in range(100)]


def test_equal_annotations_agree_fully() -> None:
    same = [("run", 1.0, 2.0), ("jump", 4.0, 5.0)]
    found = agreement(same, same, FRAMES)
    assert found.tiou == {"run": 1.0, "jump": 1.0}
    assert found.kappa == pytest.approx(1)
    assert found.num_frames == 100


def test_half_overlap_per_class() -> None:
    found = agreement([("run", 0.0, 2.0), ("run", 1.0, 3.0)], [("run", 2.0, 4.0), ("jump", 5.0, 6.0)], FRAMES)
    assert found.tiou == {"run": pytest.approx(1 / 4), "jump": 0.0}


def test_nothing_annotated_has_no_kappa() -> None:
    assert agreement([], [], FRAMES).kappa is None


def test_kappa_against_its_definition_by_matrix() -> None:
    random = np.random.default_rng(3)
    one, other = random.integers(0, 3, (2, 500))
    matrix = np.zeros((3, 3))
    np.add.at(matrix, (one, other), 1)
    matrix /= matrix.sum()
    expected = matrix.sum(0) @ matrix.sum(1)
    kappa = (np.trace(matrix) - expected) / (1 - expected)
    assert cohens_kappa(list(zip(one.tolist(), other.tolist(), strict=True))) == pytest.approx(kappa)


def test_a_frame_belongs_to_the_segment_it_begins_in() -> None:
    found = agreement([("run", 0.3, 0.6)], [("run", 0.3, 0.5)], FRAMES[:10])
    # frames 3, 4, 5 against 3, 4: 9 of 10 agree; expected 0.7 * 0.8 + 0.3 * 0.2
    assert found.kappa == pytest.approx((0.9 - 0.62) / (1 - 0.62))
