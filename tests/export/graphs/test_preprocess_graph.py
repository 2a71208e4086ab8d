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

from tsm_export.graphs.preprocess import preprocess_graph
from tsm_runtime.backends.tensorrt.build import build_plan
from tsm_runtime.backends.tensorrt.build_options import PICTURES
from tsm_runtime.backends.tensorrt.library import import_library, listening
from tsm_runtime.backends.tensorrt.network import new_builder, optimization_profiles, parse_network
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.models.choice import open_model
from tsm_runtime.models.opening import open_member
from tsm_runtime.pipeline.run import run
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.crop import Crop
from tsm_runtime.video.preprocess import VIEW_SHAPES, measured_colour, view_of
from tsm_runtime.video.reader import VideoReader

Picture = npt.NDArray[np.uint8]

HARD = ["decord__video_90.mov", "torchcodec__bt709_full_range.mp4", "mp4parser__MOV00006.3gp"]
HARD += ["ExoPlayer__bear-vp9-odd-dimensions.webm", "ExoPlayer__sample_with_htc_rotation_track_name.mkv"]


@lru_cache
def session(size: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(preprocess_graph(size), options)


def planes(frame: VideoFrame) -> dict[str, Any]:
    """The two planes of a picture as they lie in memory, rows padded; NVDEC gives NV12, P010 or P016."""
    if frame.format.components[0].bits > 8:
        return deep_planes(frame)
    nv12 = frame if frame.format.name == "nv12" else frame.reformat(format="nv12")
    y, uv = (np.frombuffer(plane, np.uint8).reshape(1, -1, plane.line_size) for plane in nv12.planes)
    return {"y": y, "uv": uv}


def deep_planes(frame: VideoFrame) -> dict[str, Any]:
    """P010 or P016 of yuv420p10 or yuv420p12, by hand: of odd sizes swscale leaves out the last chroma."""
    shift = 16 - frame.format.components[0].bits
    y, u, v = (np.frombuffer(p, "<u2").reshape(1, -1, p.line_size // 2) << shift for p in frame.planes)
    uv = np.stack([u, v], 3).reshape(1, u.shape[1], -1)
    return {"y": y.view(np.uint8), "uv": uv.view(np.uint8), "sample_bytes": np.array([2], np.float32)}


def by_graph(frame: VideoFrame, size: int, crop: Crop = "") -> Picture:
    inputs = view_of(frame, size, crop).inputs() | planes(frame)
    picture: Picture = session(size).run(None, inputs)[0][0]
    return picture


def frames_of(path: Path, every: int = 1) -> Iterator[VideoFrame]:
    with VideoReader(path) as reader:
        for number, timed in enumerate(reader.frames()):
            if number % every == 0:
                yield timed.frame


def noise(width: int, height: int, low: int = 16, high: int = 236, bits: int = 8) -> VideoFrame:
    """Blocks of noise within limited range, so that chroma and luma have edges of their own."""
    random = np.random.default_rng(width * height)
    kind, dtype = ("yuv420p", np.uint8) if bits == 8 else (f"yuv420p{bits}le", np.uint16)
    frame, scale = VideoFrame(width, height, kind), 1 << (bits - 8)
    for plane in frame.planes:
        pitch = plane.line_size // np.dtype(dtype).itemsize
        shape = (plane.height // 8 + 1, pitch // 8 + 1)
        blocks = random.integers(low * scale, high * scale, shape, dtype=dtype)
        values = np.kron(blocks, np.ones((8, 8), dtype))[: plane.height, :pitch]
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


@pytest.mark.parametrize("size", [96, 97])
def test_several_pictures_come_out_as_each_alone(size: int) -> None:
    pictures = [noise(320, 240, low, 236) for low in (16, 60, 120)]
    alone = [by_graph(picture, size) for picture in pictures]
    both = [planes(picture) for picture in pictures]
    batch = {name: np.concatenate([each[name] for each in both]) for name in ("y", "uv")}
    (together,) = session(size).run(None, view_of(pictures[0], size).inputs() | batch)
    assert np.array_equal(together, np.stack(alone))


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("size", [32, 96, 97, 256])
@pytest.mark.parametrize(("width", "height"), [(320, 240), (321, 241), (161, 121), (96, 400)])
def test_ten_and_twelve_bits_are_as_near_as_eight(width: int, height: int, size: int, bits: int) -> None:
    if size in (width, height):
        pytest.skip("as with eight bits")
    assert_near(noise(width, height, bits=bits), size, mean=0.5)


@pytest.mark.parametrize(("luma", "level"), [(512, 128), (513, 128), (515, 129), (516, 129)])
def test_the_low_bits_count(luma: int, level: int) -> None:
    """Four values of ten bits are one of eight: 515 is 128.75, and its high byte alone would be 128."""
    frame = VideoFrame(64, 64, "yuv420p10le")
    for plane, value in zip(frame.planes, (luma, 512, 512), strict=True):
        plane.update(np.full((plane.height, plane.line_size // 2), value, "<u2").tobytes())
    grey = np.array([[1, 0, 0, 0]] * 3, np.float32)
    given: dict[str, Any] = view_of(frame, 33).inputs() | planes(frame) | {"colour": grey}
    picture = session(33).run(None, given)[0]
    assert np.unique(picture).tolist() == [level]


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
    assert [s.label for s in found.segments] == [s.label for s in expected.segments]
    bounds, wanted = ([(s.start_seconds, s.end_seconds) for s in r.segments] for r in (found, expected))
    np.testing.assert_allclose(bounds, wanted, atol=0.13)  # a frame
    difference = [a.score - b.score for a, b in zip(found.segments, expected.segments, strict=True)]
    assert np.abs(difference).max() < 0.05
    same = found.scores.action.argmax(1) == expected.scores.action.argmax(1)
    assert same.mean() > 0.95  # a score near a decision moves by up to 0.17
    assert not np.array_equal(found.scores.action, expected.scores.action), "the graph was not used"


def test_clips_of_the_demo_differ_by_less_than_a_level(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_bundle(demo_folder() / "bundle").manifest.clip_spec

    def clips() -> npt.NDArray[np.int64]:
        with VideoReader(demo_folder() / "video.mp4") as reader:
            return np.concatenate([batch.frames for batch in ClipStream(reader, spec)]).astype(int)

    expected = clips()
    monkeypatch.setattr(FrameConverter, "__call__", lambda self, frame: by_graph(frame, self.size, self.crop))
    assert np.abs(clips() - expected).mean() < 1.0


@pytest.mark.parametrize("opset", [18, 20, 23])
def test_the_bytes_are_always_the_same(opset: int) -> None:
    data = preprocess_graph(96, opset=opset)
    assert data == preprocess_graph(96, opset=opset)
    model = onnx.load_from_string(data)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert onnxruntime.InferenceSession(data).get_outputs()[0].shape == ["pictures", 96, 96, 3]


def test_tensorrt_reads_and_builds_it() -> None:
    """With NVIDIA's own parser and builder, for 16 x 16 to 8192 x 4352 of 8 to 12 bits."""
    pytest.importorskip("tensorrt_rtx")
    built = build_plan(preprocess_graph(96), PICTURES, library="tensorrt_rtx", precision="fp32")
    assert len(built.plan) > 10_000
    assert not {"Half", "BFloat16", "Int8", "FP8"} & set(built.engine.layer_types)
    assert built.engine.batch == (1, 1, 1)


def test_for_tensorrt_only_the_planes_have_a_free_shape() -> None:
    """The description of a picture lies on the GPU: no value of it decides a shape."""
    trt = import_or_skip()
    with listening(trt) as heard:
        builder = new_builder(trt, heard)
        network, parser = parse_network(trt, builder, preprocess_graph(32), heard)
        inputs = [network.get_input(i) for i in range(network.num_inputs)]
        assert {tensor.name: tuple(tensor.shape) for tensor in inputs} == {
            "y": (-1, -1, -1),
            "uv": (-1, -1, -1),
            **VIEW_SHAPES,
        }
        for tensor in [*inputs, network.get_output(0)]:
            assert (tensor.is_shape_tensor, tensor.is_execution_tensor) == (False, True), tensor.name
        assert tuple(network.get_output(0).shape) == (-1, 32, 32, 3)
        (profile,) = optimization_profiles(builder, network, PICTURES)
        assert builder.create_builder_config().add_optimization_profile(profile) == 0
        del parser


def import_or_skip() -> Any:
    pytest.importorskip("tensorrt_rtx")
    return import_library("tensorrt_rtx")


def test_a_backend_does_not_take_it_for_a_model(tmp_path: Path) -> None:
    from tiny_bundle import write_tiny_bundle

    from tsm_runtime.bundle.manifest import sha256
    from tsm_runtime.errors import BundleError

    data = preprocess_graph(32)
    entry = {"sha256": sha256(data), "precision": "fp32", "kind": "preprocess"}
    folder = write_tiny_bundle(tmp_path / "b", files={"preprocess.onnx": entry}, format_version=3)
    (folder / "preprocess.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"has no model\.fp32\.onnx"):
        open_model(load_bundle(folder), "model.fp32.onnx")
