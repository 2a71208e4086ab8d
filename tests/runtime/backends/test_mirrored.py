"""Clips scored as they are and mirrored: the mean, with the labels that a mirror exchanges put back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tiny_bundle import write_tiny_bundle

from tsm_runtime.backends.base import BlockingBackend, Scores
from tsm_runtime.backends.mirrored import MirroredBackend, mirrored_columns
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.errors import UsageError
from tsm_runtime.models.member import Overrides
from tsm_runtime.models.opening import member_of, open_member


class Halves(BlockingBackend):
    """Action scores are the brightness of the left half, of the right half, and of the whole."""

    name = "halves"

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        values = frames.astype(np.float32) / 255
        middle = frames.shape[3] // 2
        parts = (values[..., :middle, :], values[..., middle:, :], values)
        each = np.stack([part.mean(axis=(2, 3, 4)) for part in parts], axis=2)
        return Scores(each.mean(axis=1), None, each, each[:, :, :1])


def left_is_bright() -> npt.NDArray[np.uint8]:
    frames = np.zeros((2, 3, 4, 4, 3), np.uint8)
    frames[..., :2, :] = 255
    return frames


def test_the_mean_of_both() -> None:
    scores = MirroredBackend(Halves(), [0, 1, 2]).infer(left_is_bright())
    np.testing.assert_array_equal(scores.action, np.full((2, 3), 0.5, np.float32))
    assert scores.scene is None
    assert scores.features is not None
    np.testing.assert_array_equal(scores.features, np.full((2, 3, 1), 0.5, np.float32))


def test_exchanged_labels() -> None:
    """What a mirror exchanges is the same for both images once it is exchanged back."""
    columns = mirrored_columns(["left", "right", "all"], [("right", "left")], [])
    scores = MirroredBackend(Halves(), columns).infer(left_is_bright())
    assert scores.frame_action is not None
    np.testing.assert_array_equal(scores.action, [[1.0, 0.0, 0.5]] * 2)
    np.testing.assert_array_equal(scores.frame_action, [[[1.0, 0.0, 0.5]] * 3] * 2)


def test_labels_without_a_mirror_image() -> None:
    with pytest.raises(UsageError, match="--flip: a mirror image of 'reading' means nothing"):
        mirrored_columns(["reading"], [], ["reading"])


@pytest.fixture
def with_pairs(tmp_path: Path) -> Path:
    """The embedded model, as if a mirror exchanged two of its actions."""
    source, folder = demo_folder() / "bundle", tmp_path / "pairs"
    folder.mkdir()
    manifest = json.loads((source / "manifest.json").read_text())
    for name in manifest["files"]:
        shutil.copy(source / name, folder / name)
    changes = {"format_version": 6, "flip_pairs": [["sitting down", "standing up"]]}
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))
    return folder


def test_a_head_cannot_exchange_labels(with_pairs: Path) -> None:
    bundle = load_bundle(with_pairs)
    with pytest.raises(UsageError, match="'sitting down' and 'standing up', which the temporal head cannot"):
        open_member(bundle, overrides=Overrides(flip=True))
    member = member_of(bundle, Halves(), Overrides(flip=True, decoding="clips"))
    assert isinstance(member.backend, MirroredBackend)


@pytest.mark.parametrize("changes", [{"never_flip": ["dark"]}])
def test_a_bundle_that_cannot_be_mirrored(tmp_path: Path, changes: dict[str, Any]) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle", **changes))
    with pytest.raises(UsageError, match=r"--flip: a mirror image of 'dark' .* \(model .*bundle\)"):
        open_member(bundle, overrides=Overrides(flip=True))
