"""Online models: a stream's scores frame by frame, and intervals of a whole video."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media import plain, write_video

pytest.importorskip("onnx")

from onnx import ModelProto, TensorProto, helper
from tiny_online import NUM_FRAMES, SIZE, expected_scores, tiny_online_model, write_online_bundle

from tsm_runtime.backends.base import BlockingBackend, Scores
from tsm_runtime.backends.online import ONLINE_MODEL, OnlineBackend, OnlineModel
from tsm_runtime.backends.onnxruntime import OnnxruntimeBackend
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.clips.builder import ClipBatch, ClipBuilder
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import BundleError, RunError
from tsm_runtime.live.backlog import Moment, Passed, Picture
from tsm_runtime.live.feeds import Feed
from tsm_runtime.live.frame_scorer import IntervalScorer, ScoredInterval
from tsm_runtime.models.choice import open_model
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.reader import VideoReader

Pixels = npt.NDArray[np.uint8]

TOLERANCE = 1e-5
"""Of a probability: SHARPNESS times a mean in float32."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_online_bundle(tmp_path_factory.mktemp("online") / "bundle")


@pytest.fixture(scope="module")
def model(folder: Path) -> OnlineModel:
    return OnlineModel(load_bundle(folder), num_threads=1)


def clips(number: int, seed: int = 0, num_frames: int = NUM_FRAMES) -> Pixels:
    """Every frame of another grey."""
    levels = np.random.default_rng(seed).integers(0, 256, (number, num_frames, 1, 1, 1), np.uint8)
    return np.broadcast_to(levels, (number, num_frames, SIZE, SIZE, 3)).copy()


def assert_scores(scores: Scores, expected: tuple[npt.NDArray[np.float64], ...]) -> None:
    assert scores.action.dtype == np.float32
    assert scores.scene is not None
    np.testing.assert_allclose(scores.action, expected[0], atol=TOLERANCE)
    np.testing.assert_allclose(scores.scene, expected[1], atol=TOLERANCE)


# --- a stream -------------------------------------------------------------------------------------


def test_scores_are_those_of_the_frames_so_far(model: OnlineModel) -> None:
    scorer, said = model.scorer(), []
    for interval in range(3):
        (clip,) = clips(1, seed=interval)
        scorer.reset()
        for number, frame in enumerate(clip, start=1):
            scores = scorer.push(frame)
            assert_scores(scores, expected_scores(clip[None, :number]))
            assert scorer.num_frames == number
            said.append((scores.action, scores.action.copy()))
    assert all(np.array_equal(kept, then) for kept, then in said)  # later frames do not change what was given
    assert np.ptp([kept[0] for kept, _ in said], axis=0).max() > 0.1


def test_without_reset_the_past_stays(model: OnlineModel) -> None:
    scorer, (first, second) = model.scorer(), clips(2)
    for frame in first:
        scorer.push(frame)
    for frame in second:
        scores = scorer.push(frame)
    assert np.abs(scores.action - expected_scores(second[None])[0]).max() > 0.01
    assert_scores(scores, expected_scores(np.concatenate([first, second])[None]))


@pytest.mark.parametrize("frames_before", [1, 2, 3])
def test_a_reset_forgets_whatever_the_moment(model: OnlineModel, frames_before: int) -> None:
    scorer, (first, second) = model.scorer(), clips(2)
    for frame in first[:frames_before]:
        scorer.push(frame)
    scorer.reset()
    for frame in second:
        scores = scorer.push(frame)
    assert_scores(scores, expected_scores(second[None]))


def test_streams_and_scorers_are_independent(model: OnlineModel) -> None:
    three, alone, given = model.scorer(3), model.scorer(), clips(3)
    for place in range(NUM_FRAMES):
        together = three.push(given[:, place])
        apart = alone.push(given[1, place])
    assert_scores(together, expected_scores(given))
    assert_scores(apart, expected_scores(given[1:2]))


def test_frames_need_not_lie_in_one_piece(model: OnlineModel) -> None:
    scorer = model.scorer()
    picture = np.random.default_rng(0).integers(0, 256, (SIZE, 2 * SIZE, 3), np.uint8)[::-1, ::2]
    assert not picture.flags.c_contiguous
    assert_scores(scorer.push(picture), expected_scores(picture[None, None]))


def test_memory_does_not_grow(model: OnlineModel) -> None:
    scorer, (clip,) = model.scorer(), clips(1)
    for frame in clip:
        scorer.push(frame)
    tracemalloc.start()
    try:
        for _ in range(200):
            scorer.push(clip[0])
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert scorer.num_frames == NUM_FRAMES + 200
    assert grown < 20_000  # one picture of this size is 3 kB, 200 would be 600 kB


@pytest.mark.parametrize(
    ("frame", "got"),
    [
        (np.zeros((SIZE, SIZE), np.uint8), r"uint8 \(32, 32\)"),
        (np.zeros((SIZE, SIZE, 4), np.uint8), r"uint8 \(32, 32, 4\)"),
        (np.zeros((SIZE, SIZE, 3), np.float32), r"float32 \(32, 32, 3\)"),
        (np.zeros((2, SIZE, SIZE, 3), np.uint8), r"uint8 \(2, 32, 32, 3\)"),
    ],
)
def test_other_pictures_are_refused(model: OnlineModel, frame: npt.NDArray[np.generic], got: str) -> None:
    scorer = model.scorer()
    with pytest.raises(ValueError, match=rf"expected uint8 \(1, 32, 32, 3\), got {got}"):
        scorer.push(frame)  # type: ignore[arg-type]
    assert scorer.num_frames == 0


def test_one_picture_is_not_spread_over_streams(model: OnlineModel) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(2, 32, 32, 3\), got uint8 \(32, 32, 3\)"):
        model.scorer(2).push(np.zeros((SIZE, SIZE, 3), np.uint8))
    with pytest.raises(ValueError, match="num_streams: expected 1 or more, got 0"):
        model.scorer(0)


def test_an_error_of_onnxruntime_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = OnlineModel(load_bundle(folder), num_threads=1)
    scorer, (clip,) = model.scorer(), clips(1)

    class Broken:
        def run_with_iobinding(self, binding: object) -> None:
            raise RuntimeError("no\n memory")

    with monkeypatch.context() as patch:
        patch.setattr(model, "session", Broken())
        with pytest.raises(RunError, match=r"^onnxruntime .* online failed on 1 frame: no memory$"):
            scorer.push(clip[0])
    for frame in clip:
        scores = scorer.push(frame)
    assert_scores(scores, expected_scores(clip[None]))


# --- the bundle -----------------------------------------------------------------------------------


def changed(change: Callable[[ModelProto], object]) -> ModelProto:
    model = tiny_online_model()
    change(model)
    return model


def renamed_output(model: ModelProto) -> None:
    model.graph.output[-1].name = "state_0_next"
    for node in model.graph.node:
        node.output[:] = ["state_0_next" if name == "next_state_0" else name for name in node.output]
        node.input[:] = ["state_0_next" if name == "next_state_0" else name for name in node.input]


def free_state(model: ModelProto) -> None:
    for name, values in (("state_1", model.graph.input), ("next_state_1", model.graph.output)):
        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "C"]))
    model.graph.node.append(helper.make_node("Identity", ["state_1"], ["next_state_1"]))


def one_stream(model: ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def other_size(model: ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("frame", TensorProto.UINT8, ["N", 48, 48, 3]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed_output, "is no online model that fits the manifest: expected "),
        (other_size, "is no online model that fits the manifest: expected "),
        (free_state, "has states of no fixed size; export it again"),
        (one_stream, "takes one number of streams only; export it again with a free first axis"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    tmp_path: Path, change: Callable[[ModelProto], object], message: str
) -> None:
    bundle = load_bundle(write_online_bundle(tmp_path / "bundle", changed(change)))
    with pytest.raises(BundleError) as caught:
        OnlineModel(bundle)
    assert str(caught.value).startswith(f"{bundle.path}: model.online.onnx {message}")


def test_models_are_not_taken_for_each_other(folder: Path) -> None:
    bundle = load_bundle(folder)
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx is no online model that fits the manifest"):
        OnlineModel(bundle, "model.fp32.onnx")
    with pytest.raises(BundleError, match=r"model\.online\.onnx does not fit the manifest"):
        OnnxruntimeBackend(bundle, ONLINE_MODEL)
    assert isinstance(open_model(bundle, ONLINE_MODEL), OnlineBackend)
    assert isinstance(open_model(bundle, "model.fp32.onnx"), OnnxruntimeBackend)


def test_a_bundle_without_online_model_says_so(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"has no model\.online\.onnx \(it has model\.fp32\.onnx\)"):
        open_model(load_bundle(tiny_bundle), ONLINE_MODEL)


def test_what_the_manifest_says(folder: Path, tiny_bundle: Path) -> None:
    manifest = load_bundle(folder).manifest
    assert manifest.shift_direction == "past"
    assert {name: file.kind for name, file in manifest.files.items()} == {
        "model.fp32.onnx": "clips",
        "model.online.onnx": "online",
    }
    older = load_bundle(tiny_bundle).manifest  # has neither key
    assert (older.shift_direction, older.files["model.fp32.onnx"].kind) == ("both", "clips")


# --- whole clips ----------------------------------------------------------------------------------


def test_a_backend_for_whole_clips(folder: Path) -> None:
    backend = open_model(load_bundle(folder), ONLINE_MODEL, num_threads=1)
    assert backend.name.endswith("CPU, fp32, online")
    for number in (1, 3, 3, 2, 1):  # the last batch of a video is smaller
        given = clips(number, seed=number)
        before = given.copy()
        assert_scores(backend.infer(given), expected_scores(given))
        assert np.array_equal(given, before)
    with pytest.raises(ValueError, match="expected 4 frames per clip, got 5"):
        backend.infer(clips(1, num_frames=5))


# --- intervals of a video -------------------------------------------------------------------------

SPEC = ClipSpec(interval_seconds=0.4, num_frames=NUM_FRAMES, size=SIZE)


@dataclass
class ExpectedBackend(BlockingBackend):
    """What the online model is to say, computed by numpy from whole clips."""

    name: str = "numpy"

    def infer(self, frames: Pixels) -> Scores:
        action, scene = expected_scores(frames)
        return Scores(action.astype(np.float32), scene.astype(np.float32))


def shown(times: Sequence[float], length: float) -> list[tuple[float, float, Pixels]]:
    """Frames that begin at `times`, each of another grey, the last until `length`."""
    ends = [*times[1:], length]
    return [
        (start, end, plain(37 * number % 256, (SIZE, SIZE)))
        for number, (start, end) in enumerate(zip(times, ends, strict=True))
    ]


def online_intervals(
    model: OnlineModel, feed: Feed, frames: Sequence[tuple[float, float, Pixels]]
) -> list[tuple[int, ScoredInterval]]:
    """Intervals with the number of frames after which each was over."""
    scorer, found = IntervalScorer(model.scorer(), feed.spec), list[tuple[int, ScoredInterval]]()
    for number, (start, end, pixels) in enumerate(frames, start=1):
        for item in feed.push(start, end, lambda pixels=pixels: pixels, Moment(end, 0.0, 0.0)):
            if isinstance(item, Picture):
                for _ in range(item.num_places):
                    scorer.push(item.index, item.pixels)
            elif isinstance(item, Passed):
                found += [(number, scored) for scored in scorer.over(item.stop)]
    return found


@settings(max_examples=60)
@given(steps=st.lists(st.sampled_from([0, 20, 40, 90, 200, 430, 900]), min_size=2, max_size=60))
def test_intervals_are_those_of_the_clip_builder(model: OnlineModel, steps: list[int]) -> None:
    """For any timing, gaps and repeated times included."""
    times = np.cumsum([0, *steps]) / 1000
    frames = shown(times[:-1].tolist(), float(times[-1]))
    builder = ClipBuilder(SPEC, 1)
    batches: list[ClipBatch] = []
    for start, end, picture in frames:
        batches += builder.push(start, end, lambda picture=picture: picture)
    found = online_intervals(model, Feed(0, SPEC, by_frame=True), frames)
    assert [scored.index for _, scored in found] == [int(batch.indices[0]) for batch in batches]
    for (_, scored), batch in zip(found, batches, strict=True):
        assert_scores(scored.scores, expected_scores(batch.frames))


def test_an_interval_is_scored_when_it_is_over(model: OnlineModel) -> None:
    """t = 0.4 s, moments at 0.05, 0.15, 0.25 and 0.35 s of each interval."""
    frames = shown([0.0, 0.1, 0.2, 0.3, 0.36, 0.4], 0.5)
    found = online_intervals(model, Feed(0, SPEC, by_frame=True), frames)
    assert [(number, scored.index) for number, scored in found] == [(5, 0)]


def test_a_scorer_of_other_clips_is_refused(model: OnlineModel) -> None:
    with pytest.raises(
        ValueError, match=r"expected a scorer of 1 stream, 4 frames of 32 px, got \(2, 4, 32\)"
    ):
        IntervalScorer(model.scorer(2), SPEC)
    other = ClipSpec(interval_seconds=0.4, num_frames=8, size=SIZE)
    with pytest.raises(ValueError, match=r"8 frames of 32 px, got \(1, 4, 32\)"):
        IntervalScorer(model.scorer(), other)


def member(backend: OnlineBackend | ExpectedBackend, folder: Path) -> Member:
    manifest = load_bundle(folder).manifest
    return Member(
        backend=backend,
        spec=manifest.clip_spec,
        action_labels=manifest.action_labels,
        scene_labels=manifest.scene_labels,
    )


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds that go through all greys, with a gap from 3.0 to 5.2 s."""
    greys = [round(127.5 + 127.5 * np.sin(number / 9)) for number in range(145)]
    times = [40 * number if number < 75 else 2200 + 40 * number for number in range(145)]
    path = tmp_path_factory.mktemp("media") / "greys.mkv"
    return write_video(path, [plain(grey) for grey in greys], pts=times)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_whole_video(folder: Path, model: OnlineModel, video: Path, batch_size: int) -> None:
    """The pipeline with the online model, with whole clips by numpy, and interval by interval."""
    options = Options(batch_size=batch_size)
    online = run(video, member(OnlineBackend(model), folder), options)
    clip_wise = run(video, member(ExpectedBackend(), folder), options)
    assert len(clip_wise.segments) >= 5
    assert [(s.label, s.start_seconds, s.end_seconds) for s in online.segments] == [
        (s.label, s.start_seconds, s.end_seconds) for s in clip_wise.segments
    ]
    assert clip_wise.scores is not None
    assert online.scores is not None
    assert online.scores.scene is not None
    assert np.array_equal(online.scores.indices, clip_wise.scores.indices)
    np.testing.assert_allclose(online.scores.action, clip_wise.scores.action, atol=TOLERANCE)
    assert (len(online.gaps), online.gaps) == (1, clip_wise.gaps)

    spec, convert = load_bundle(folder).manifest.clip_spec, FrameConverter(SIZE)
    with VideoReader(video) as reader:
        frames = [(frame.start_seconds, frame.end_seconds, convert(frame.frame)) for frame in reader.frames()]
    ends = [*(start for start, _, _ in frames[1:]), frames[-1][1]]
    timed = [(start, end, picture) for (start, _, picture), end in zip(frames, ends, strict=True)]
    found = online_intervals(model, Feed(0, spec, by_frame=True), timed)
    assert [scored.index for _, scored in found] == online.scores.indices.tolist()
    for (_, scored), action in zip(found, online.scores.action, strict=True):
        np.testing.assert_allclose(scored.scores.action[0], action, atol=TOLERANCE)
