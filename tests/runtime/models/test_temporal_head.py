"""Features of frames through a temporal head, chunk by chunk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.backends.base import Scores
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import BundleError, RunError
from tsm_runtime.models import temporal_head
from tsm_runtime.models.frame_stream import FrameStream
from tsm_runtime.models.temporal_head import HeadStream, TemporalHead, joined_frames
from tsm_runtime.results import FrameScores

BEFORE, AFTER = 3, 2


class SumHead:
    """Scores a frame by the sum of the features of its neighbours, zeros beyond the ends."""

    context = (BEFORE, AFTER)

    def __init__(self) -> None:
        self.longest = 0

    def infer(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.longest = max(self.longest, len(features))
        padded = np.pad(features[:, 0], (BEFORE, AFTER))
        sums = np.lib.stride_tricks.sliding_window_view(padded, BEFORE + AFTER + 1).sum(1)
        scores = np.stack([sums, -sums], 1).astype(np.float32)
        return scores, scores[:, 0], scores


def run(stream: HeadStream, parts: list[np.ndarray], first: int = 0) -> FrameScores:
    found: list[FrameScores] = []
    for part in parts:
        found += stream.push(first, part)
        first += len(part)
    return joined_frames(found + stream.close())


def cut(features: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    borders = np.cumsum(sizes)
    return [part for part in np.split(features, borders[borders < len(features)]) if len(part)]


@given(length=st.integers(1, 60), chunk=st.integers(1, 20), sizes=st.lists(st.integers(1, 15), max_size=20))
def test_chunks_of_any_size_give_what_the_whole_gives(length: int, chunk: int, sizes: list[int]) -> None:
    features = np.random.default_rng(length).integers(-9, 9, (length, 1)).astype(np.float32)
    head = SumHead()
    found = run(HeadStream(head, 0.1, chunk), cut(features, sizes), first=7)  # type: ignore[arg-type]
    whole = head.infer(features)
    np.testing.assert_array_equal(found.indices, np.arange(7, 7 + length))
    np.testing.assert_array_equal(found.action, whole[0])
    np.testing.assert_array_equal(found.actionness, whole[1])
    np.testing.assert_array_equal(found.distances, whole[2])


def test_memory_does_not_grow_with_the_video() -> None:
    head = SumHead()
    run(HeadStream(head, 0.1, 16), [np.ones((4, 1), np.float32)] * 1000)  # type: ignore[arg-type]
    assert head.longest <= BEFORE + 16 + 4 + AFTER


def test_a_gap_begins_a_new_piece() -> None:
    head = SumHead()
    stream = HeadStream(head, 0.1, 5)  # type: ignore[arg-type]
    ones = np.ones((4, 1), np.float32)
    found = [
        *stream.push(0, ones),
        *stream.push(8, ones),
        *stream.push(12, ones, begins=True),
        *stream.close(),
    ]
    frames = joined_frames(found, frozenset({12}))
    assert frames.indices.tolist() == [0, 1, 2, 3, *range(8, 16)]
    np.testing.assert_array_equal(frames.action[:, 0], [3, 4, 4, 4] * 3)
    assert [(s.start, s.stop) for s in frames.pieces] == [(0, 4), (4, 8), (8, 12)]


SPEC = ClipSpec(interval_seconds=0.5, num_frames=2, size=32)


def scores(count: int, *, features: bool = True) -> Scores:
    values = np.arange(count * 2, dtype=np.float32).reshape(count, 2, 1)
    ones = np.ones((count, 2, 1), np.float32) if features else None
    return Scores(np.zeros((count, 1), np.float32), None, values, ones)


def test_frames_of_clips_are_numbered_by_their_intervals_and_cut_at_gaps() -> None:
    stream = FrameStream.of(SPEC, None)
    parts = stream.push(np.array([0, 1, 4, 5]), scores(4), {5})
    assert [part.indices.tolist() for part in parts] == [[0, 1, 2, 3], [8, 9], [10, 11]]
    assert [part.action[:, 0].tolist() for part in parts] == [[0, 1, 2, 3], [4, 5], [6, 7]]
    assert stream.close() == []
    assert parts[0].step_seconds == 0.25


def test_a_head_sees_the_features_of_a_piece_alone() -> None:
    stream = FrameStream.of(SPEC, SumHead())  # type: ignore[arg-type]
    found = [*stream.push(np.array([0, 1]), scores(2), {2}), *stream.push(np.array([2, 3]), scores(2), {2})]
    frames = joined_frames([*found, *stream.close()], frozenset({4}))
    np.testing.assert_array_equal(frames.action[:, 0], [3, 4, 4, 4] * 2)


def test_a_model_without_outputs_of_frames_is_named() -> None:
    with pytest.raises(RunError, match="--frame-scores"):
        FrameStream.of(SPEC, SumHead()).push(np.array([0]), scores(1, features=False), ())  # type: ignore[arg-type]


def test_the_head_runs_on_openvino_where_that_alone_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    bundle = load_bundle(demo_folder() / "bundle")
    features = np.random.default_rng(0).normal(size=(50, bundle.manifest.feature_dim)).astype(np.float32)
    expected = TemporalHead(bundle).infer(features)
    monkeypatch.setattr(temporal_head, "find_spec", lambda name: None if name == "onnxruntime" else True)
    monkeypatch.setattr(temporal_head, "open_call", None)
    found = TemporalHead(bundle).infer(features)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_bundle_without_a_head_is_named(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="has no temporal head; train one"):
        TemporalHead(load_bundle(tiny_bundle))
