"""`preprocess.onnx` beside swscale: pictures, segments, and NVIDIA's parser and builder."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from av import VideoFrame
from media import corners, write_video

from tsm_export.preprocess_graph import preprocess_graph
from tsm_runtime.backends import open_backend
from tsm_runtime.bundle import load_bundle
from tsm_runtime.clip_stream import ClipStream
from tsm_runtime.crop import Crop
from tsm_runtime.decode import VideoReader
from tsm_runtime.frames import FrameConverter
from tsm_runtime.inputs import demo_folder
from tsm_runtime.members import open_member
from tsm_runtime.options import Options
from tsm_runtime.pipeline import run
from tsm_runtime.preprocess import measured_colour, view_of

Picture = npt.NDArray[np.uint8]

HARD = ["decord__video_90.mov", "torchcodec__bt709_full_range.mp4", "mp4parser__MOV00006.3gp"]
HARD += ["ExoPlayer__bear-vp9-odd-dimensions.webm", "ExoPlayer__sample_with_htc_rotation_track_name.mkv"]


@lru_cache
def session(size: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(preprocess_graph(size), options)


def planes(frame: VideoFrame) -> dict[str, Picture]:
    """The two planes of a picture as they lie in memory, rows padded; NVDEC gives NV12."""
    nv12 = frame if frame.format.name == "nv12" else frame.reformat(format="nv12")
    y, uv = (np.frombuffer(plane, np.uint8).reshape(1, -1, plane.line_size) for plane in nv12.planes)
    return {"y": y, "uv": uv.reshape(1, uv.shape[1], -1, 2)}


def by_graph(frame: VideoFrame, size: int, crop: Crop = "") -> Picture:
    inputs = planes(frame) | view_of(frame, size, crop).inputs()
    picture: Picture = session(size).run(None, inputs)[0][0]
    return picture


def frames_of(path: Path, every: int = 1) -> Iterator[VideoFrame]:
    with VideoReader(path) as reader:
        for number, timed in enumerate(reader.frames()):
            if number % every == 0:
                yield timed.frame


def noise(width: int, height: int, low: int = 16, high: int = 236) -> VideoFrame:
    """Blocks of noise within limited range, so that chroma and luma have edges of their own."""
    random = np.random.default_rng(width * height)
    frame = VideoFrame(width, height, "yuv420p")
    for plane in frame.planes:
        blocks = random.integers(low, high, (plane.height // 8 + 1, plane.line_size // 8 + 1), dtype=np.uint8)
        values = np.kron(blocks, np.ones((8, 8), np.uint8))[: plane.height, : plane.line_size]
        plane.update(np.ascontiguousarray(values).tobytes())
    return frame


def assert_near(
    frame: VideoFrame, size: int, crop: Crop = "", *, mean: float, bias: float = 0.25, far: float = 0.02
) -> None:
    """Mean difference of a level, systematic difference, and share `far` of bytes off by more than 4."""
    expected = FrameConverter(size, crop)(frame).astype(int)
    difference = by_graph(frame, size, crop).astype(int) - expected
    assert difference.shape == (size, size, 3)
    assert np.abs(difference).mean() < mean
    assert abs(difference.mean()) < bias
    assert (np.abs(difference) > 4).mean() < far


@pytest.mark.parametrize("size", [32, 96, 97, 256])
@pytest.mark.parametrize(
    ("width", "height"), [(320, 240), (321, 241), (161, 121), (96, 400), (64, 64), (2, 2)]
)
def test_any_size_comes_out_as_from_swscale(width: int, height: int, size: int) -> None:
    if size in (width, height):
        pytest.skip("at its own size swscale takes the nearest chroma, which the graph does not")
    assert_near(noise(width, height), size, mean=0.5)


@pytest.mark.parametrize("crop", ["left", "right"])
@pytest.mark.parametrize(("width", "height"), [(320, 120), (321, 121), (322, 120)])
def test_a_half_is_cut_out_before_the_resize(width: int, height: int, crop: Crop) -> None:
    assert_near(noise(width, height), 48, crop, mean=0.5)


@pytest.mark.parametrize("space", [0, 1, 2, 4, 5, 6, 7, 9])
@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize("size", [48, 49])
def test_matrix_and_range_follow_the_picture(space: int, color_range: int, size: int) -> None:
    frame = noise(160, 120, 90, 160)
    frame.colorspace, frame.color_range = space, color_range
    assert_near(frame, size, mean=0.5)


def test_the_measured_matrix_is_that_of_the_standard() -> None:
    """ITU-R BT.709-6, 3.2 to 3.5: E'Y = 0.2126 R + 0.7152 G + 0.0722 B, full range; so V adds 1.5748 to R."""
    colour = measured_colour(1, 2, odd=True)
    assert colour[:, :3] == pytest.approx(
        np.array([[1, 0, 1.5748], [1, -0.1873, -0.4681], [1, 1.8556, 0]]), abs=0.02
    )
    assert colour @ np.array([90, 128, 128, 1]) == pytest.approx([90, 90, 90], abs=1)


@pytest.mark.parametrize("turn", [(d, h, False) for d in (0, 90, 180, 270) for h in (False, True)])
@pytest.mark.parametrize("crop", ["", "left", "right"])
def test_a_picture_stands_upright(tmp_path: Path, turn: tuple[float, bool, bool], crop: Crop) -> None:
    path = write_video(tmp_path / "v.mp4", [corners((96, 64))] * 2, rotation=turn)
    assert_near(next(frames_of(path)), 24, crop, mean=1.1, bias=1.1)  # plain levels, each off by up to 1


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("size", [96, 97, 256])
def test_real_pictures_come_out_as_from_swscale(shared_data: Path, name: str, size: int) -> None:
    frame = next(frames_of(shared_data / "hard" / name))
    saturated = "full_range" in name  # swscale's tables end where colours leave RGB
    assert_near(frame, size, mean=1.0, far=0.06 if saturated else 0.02)


@pytest.mark.parametrize("folder", ["x360/panoramic", "x360/binocular", "ut_interaction/videos"])
def test_real_video_comes_out_as_from_swscale(shared_data: Path, folder: str) -> None:
    for path in sorted((shared_data / folder).rglob("*.mp4"))[:2]:
        for frame in frames_of(path, every=100):
            assert_near(frame, 128, "right" if "binocular" in folder else "", mean=0.6)


def test_the_segments_of_the_demo_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole run with frames from the graph: same labels and bounds, scores within 0.05 (seen: 0.024)."""
    video, bundle = demo_folder() / "video.mp4", load_bundle(demo_folder() / "bundle")
    member = open_member(bundle)
    expected = run(video, member)
    monkeypatch.setattr(FrameConverter, "__call__", lambda self, frame: by_graph(frame, self.size, self.crop))
    found = run(video, member)
    member.backend.close()
    assert len(expected.segments) > 3
    assert [(s.label, s.start_seconds, s.end_seconds) for s in found.segments] == [
        (s.label, s.start_seconds, s.end_seconds) for s in expected.segments
    ]
    difference = [a.score - b.score for a, b in zip(found.segments, expected.segments, strict=True)]
    assert np.abs(difference).max() < 0.05
    same = found.scores.action.argmax(1) == expected.scores.action.argmax(1)
    assert same.mean() > 0.95  # a score near a decision moves by up to 0.17
    assert not np.array_equal(found.scores.action, expected.scores.action), "the graph was not used"


def test_clips_of_the_demo_differ_by_less_than_a_level(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_bundle(demo_folder() / "bundle").manifest.clip_spec

    def clips() -> npt.NDArray[np.int64]:
        with VideoReader(demo_folder() / "video.mp4") as reader:
            return np.concatenate([batch.frames for batch in ClipStream(reader, spec, Options())]).astype(int)

    expected = clips()
    monkeypatch.setattr(FrameConverter, "__call__", lambda self, frame: by_graph(frame, self.size, self.crop))
    assert np.abs(clips() - expected).mean() < 1.0


@pytest.mark.parametrize("opset", [18, 20, 23])
def test_the_bytes_are_always_the_same(opset: int) -> None:
    data = preprocess_graph(96, opset=opset)
    assert data == preprocess_graph(96, opset=opset)
    model = onnx.load_from_string(data)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert onnxruntime.InferenceSession(data).get_outputs()[0].shape == [1, 96, 96, 3]


def test_tensorrt_reads_and_builds_it() -> None:
    """With NVIDIA's own parser and builder, for 16 x 16 to 8192 x 4352."""
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(preprocess_graph(96)), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    assert (network.num_inputs, network.num_outputs) == (5, 1)
    profile = builder.create_optimization_profile()
    profile.set_shape("y", (1, 16, 16), (1, 1088, 2048), (1, 4352, 8192))
    profile.set_shape("uv", (1, 8, 8, 2), (1, 544, 1024, 2), (1, 2176, 4096, 2))
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    assert plan.nbytes > 10_000


def test_a_backend_does_not_take_it_for_a_model(tmp_path: Path) -> None:
    from tiny_bundle import write_tiny_bundle

    from tsm_runtime.bundle import sha256
    from tsm_runtime.errors import BundleError

    data = preprocess_graph(32)
    entry = {"sha256": sha256(data), "precision": "fp32", "kind": "preprocess"}
    folder = write_tiny_bundle(tmp_path / "b", files={"preprocess.onnx": entry}, format_version=3)
    (folder / "preprocess.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"has no model\.fp32\.onnx"):
        open_backend(load_bundle(folder))
