"""Report of tsm-verify on preprocess.onnx: its pictures, and the scores of the model on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av import VideoFrame
from entry import Command, command
from media import write_levels
from tiny_bundle import SIZE, tiny_manifest, tiny_model, write_tiny_bundle

from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.manifest import sha256
from tsm_runtime.verification.pictures import MOST_LEVELS, PictureDifference, planes_of

onnx = pytest.importorskip("onnx")
from tsm_export.graphs.preprocess import preprocess_graph  # noqa: E402

NAME = "preprocess.onnx"


@pytest.fixture
def tsm_verify(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    from tsm_runtime.commands.verify import main

    return command("tsm-verify", main, monkeypatch, capfdbinary)


def write_bundle(folder: Path, graph: bytes, **more: object) -> Path:
    files: Any = dict(tiny_manifest(tiny_model().SerializeToString())["files"])  # type: ignore[call-overload]
    files[NAME] = {"sha256": sha256(graph), "precision": "fp32", "kind": "preprocess"}
    write_tiny_bundle(folder, files=files | more, format_version=3)
    (folder / NAME).write_bytes(graph)
    return folder


def changed(graph: bytes, kind: str, edit: Any) -> bytes:
    """A graph whose last node of a kind was changed."""
    model = onnx.load_from_string(graph)
    edit(model, [node for node in model.graph.node if node.op_type == kind][-1])
    return model.SerializeToString()  # type: ignore[no-any-return]


def swap_red_and_blue(model: Any, node: Any) -> None:
    """Let the pictures be reversed along their last axis."""
    node.output[0] = "turned"
    for name, value in (("starts", -1), ("ends", -99), ("axes", 3), ("steps", -1)):
        model.graph.initializer.append(onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [1], [value]))
    reverse = onnx.helper.make_node("Slice", ["turned", "starts", "ends", "axes", "steps"], ["frames"])
    model.graph.node.append(reverse)


def verify_pictures(tsm_verify: Command, folder: Path, video: Path, *words: str) -> tuple[int, Any, str]:
    code, out, err = tsm_verify(folder, "--video", video, "--json", "-q", *words)
    return code, json.loads(out), err


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_the_same_segments_from_nearly_the_same_pictures(
    tsm_verify: Command, tmp_path: Path, pixel_format: str
) -> None:
    folder = write_bundle(tmp_path / "b", preprocess_graph(SIZE))
    levels = [(20, 1.0), (235, 1.0), (120, 1.5)]
    video = write_levels(tmp_path / "v.mkv", levels, codec="ffv1", pixel_format=pixel_format)
    code, report, err = verify_pictures(tsm_verify, folder, video)
    assert (code, err) == (0, "")
    assert report["compared"] == [NAME]
    (pictures,) = report["pictures"]
    assert (pictures["file"], pictures["input"]) == (NAME, "v.mkv")
    assert (pictures["num_drawn"], pictures["num_others"]) == (7 * 4, 0)
    assert 0 <= pictures["mean"] <= pictures["largest"] <= 1  # plain pictures: a level at most
    (segments,) = report["segments"]
    assert segments["shared"] == segments["reference"] == segments["file_has"] == 2
    (kept,) = [entry for entry in report["verification"]["files"] if entry["file"] == NAME]
    assert (kept["passed"], kept["num_clips"], kept["segment_agreement"]) == (True, 7, 1.0)
    assert load_bundle(folder).manifest.verifications[0].files[-1].file == NAME
    code, out, _ = tsm_verify(folder, "--video", video, "-q", "--no-write")
    assert f"{NAME} on v.mkv: its 28 pictures are 0." in out


def test_wrong_pictures_fail(tsm_verify: Command, tmp_path: Path) -> None:
    """Red and blue swapped: the tiny model, which looks at brightness alone, finds the same segments."""
    graph = changed(preprocess_graph(SIZE), "Cast", swap_red_and_blue)
    folder = write_bundle(tmp_path / "b", graph)
    picture = np.full((64, 64, 3), (200, 100, 50), np.uint8)
    from media import write_video

    video = write_video(tmp_path / "v.mkv", [picture] * 30, codec="ffv1")
    code, report, err = verify_pictures(tsm_verify, folder, video)
    assert code == 6
    assert f"failed: {NAME}; do not use what failed" in err
    (problem,) = report["problems"]
    assert problem["problem"].startswith("pictures: ")
    assert problem["problem"].endswith("levels off on the mean, allowed is 2")
    assert report["pictures"][0]["mean"] == pytest.approx(100, abs=3)  # of 150, 0 and 150


def test_pictures_that_no_gpu_would_draw_are_not_compared(tsm_verify: Command, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", preprocess_graph(SIZE))
    video = write_levels(tmp_path / "v.mkv", [(20, 2.0)], codec="ffv1", pixel_format="yuv444p")
    code, report, _ = verify_pictures(tsm_verify, folder, video)
    assert code == 0
    why = report["verification"]["not_run"][NAME]
    assert why == "v.mkv has pictures that --hwdec converts on the CPU too"
    assert report["pictures"] == []


def test_an_invalid_graph_is_reported(tsm_verify: Command, tmp_path: Path) -> None:
    video = write_levels(tmp_path / "v.mkv", [(20, 2.0)], codec="ffv1")
    code, report, _ = verify_pictures(tsm_verify, write_bundle(tmp_path / "text", b"no graph"), video)
    assert code == 6
    assert f"{NAME} does not load in onnxruntime" in report["failures"][NAME]
    old = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["y"], ["frames"])],
            "old",
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, (1, "h", "p"))],
            [onnx.helper.make_tensor_value_info("frames", onnx.TensorProto.UINT8, (1, "h", "p"))],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 20)],
        ir_version=10,
    )
    folder = write_bundle(tmp_path / "old", old.SerializeToString())
    code, report, _ = verify_pictures(tsm_verify, folder, video)
    assert code == 6
    assert report["failures"][NAME].endswith("is of a time when it took 8 bits only; export it again")


# --- planes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(64, 48), (33, 17)])
@pytest.mark.parametrize(("kind", "bits"), [("yuv420p", 8), ("yuv420p10le", 10), ("yuv420p12le", 12)])
def test_planes_hold_the_samples_where_the_graph_looks(kind: str, bits: int, width: int, height: int) -> None:
    """NV12, and P010 and P016: the value in the high bits, U before V."""
    random, dtype = np.random.default_rng(0), np.dtype(np.uint8 if bits == 8 else "<u2")
    frame, given = VideoFrame(width, height, kind), []
    for plane in frame.planes:
        values = random.integers(0, 1 << bits, (plane.height, plane.line_size // dtype.itemsize)).astype(
            dtype
        )
        plane.update(values.tobytes())
        given.append(values.astype(int))
    planes = planes_of(frame)
    assert planes is not None
    assert planes["sample_bytes"].tolist() == [dtype.itemsize]
    y, uv = (planes[name][0].view(dtype).astype(int) >> (8 * dtype.itemsize - bits) for name in ("y", "uv"))
    np.testing.assert_array_equal(y, given[0])
    np.testing.assert_array_equal(uv[:, 0::2], given[1])
    np.testing.assert_array_equal(uv[:, 1::2], given[2])


def test_nv12_is_taken_as_it_is() -> None:
    frame = VideoFrame(32, 16, "nv12")
    for number, plane in enumerate(frame.planes):
        plane.update(bytes([number + 1]) * plane.buffer_size)
    planes = planes_of(frame)
    assert planes is not None
    assert {int(planes["y"].max()), int(planes["y"].min())} == {1}
    assert {int(planes["uv"].max()), int(planes["uv"].min())} == {2}
    assert planes["uv"].shape[1] == 8
    assert planes_of(VideoFrame(32, 16, "yuv444p")) is None


def test_a_difference_of_pictures() -> None:
    first = np.zeros((2, 1, 2, 2, 3), np.uint8)
    second = first.copy()
    second[1, 0, 0, 0] = 255, 0, 9
    found = PictureDifference.of(first, second, 2, 1)
    assert found == PictureDifference(mean=264 / 24, largest=255, num_drawn=2, num_others=1)
    assert found.problem() == "pictures: 11.00 levels off on the mean, allowed is 2"
    assert PictureDifference(mean=MOST_LEVELS, largest=9, num_drawn=1, num_others=0).problem() is None
    with pytest.raises(ValueError, match="expected equal shapes"):
        PictureDifference.of(first, second[:1], 1, 0)
