"""The half of one eye: cut out before the resize, alike in training and deployment."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from fakes import ACTIONS, SCENES, BrightnessBackend
from media import corners, plain, write_video
from tiny_bundle import write_tiny_bundle

from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.clips.options import ClipOptions
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.errors import BundleError, VideoError
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.crop import Crop, stored_half
from tsm_runtime.video.reader import VideoReader

Array = npt.NDArray[np.uint8]
HALVES: tuple[tuple[Crop, slice], ...] = (("left", slice(None, 48)), ("right", slice(48, None)))


def noise(width: int = 96, height: int = 40) -> Array:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def yuv_frame(y: Array, u: Array, v: Array) -> av.VideoFrame:
    rows, columns = y.shape
    packed = np.concatenate([y.ravel(), u.ravel(), v.ravel()]).reshape(rows * 3 // 2, columns)
    return av.VideoFrame.from_ndarray(packed, "yuv420p")


@pytest.mark.parametrize(("crop", "columns"), HALVES)
@pytest.mark.parametrize("size", [16, 33, 48, 64])
def test_a_half_is_what_a_video_of_that_half_alone_shows(crop: Crop, columns: slice, size: int) -> None:
    picture = noise()
    half = np.ascontiguousarray(picture[:, columns])
    shown = FrameConverter(size, crop)(av.VideoFrame.from_ndarray(picture, "rgb24"))
    assert np.array_equal(shown, FrameConverter(size)(av.VideoFrame.from_ndarray(half, "rgb24")))


@pytest.mark.parametrize(("crop", "columns"), HALVES)
def test_halves_of_subsampled_colour_in_any_range(crop: Crop, columns: slice) -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 256, (40, 96), np.uint8)
    u, v = rng.integers(0, 256, (2, 20, 48), np.uint8)
    small = slice(columns.start and columns.start // 2, columns.stop and columns.stop // 2)
    whole, half = yuv_frame(y, u, v), yuv_frame(y[:, columns], u[:, small], v[:, small])
    pictures = {}
    for space, color_range in ((1, 2), (5, 1)):
        for frame in (whole, half):
            frame.colorspace, frame.color_range = space, color_range
        shown = FrameConverter(32, crop)(whole)
        assert np.array_equal(shown, FrameConverter(32)(half))
        pictures[space] = shown
    assert not np.array_equal(pictures[1], pictures[5])  # the colours' meaning was not lost


def test_one_converter_takes_frames_of_changing_size_and_format() -> None:
    convert = FrameConverter(32, "left")
    for width, name in ((96, "rgb24"), (64, "rgb24"), (64, "gray"), (96, "rgb24")):
        picture = noise(width)
        frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=name)
        half = np.ascontiguousarray(picture[:, : width // 2])
        expected = FrameConverter(32)(av.VideoFrame.from_ndarray(half, "rgb24").reformat(format=name))
        assert np.array_equal(convert(frame), expected)


def test_an_odd_column_belongs_to_no_half() -> None:
    picture = noise(width=31)
    for crop, columns in (("left", slice(0, 15)), ("right", slice(15, 30))):
        half = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:, columns]), "rgb24")
        shown = FrameConverter(16, crop)(av.VideoFrame.from_ndarray(picture, "rgb24"))  # type: ignore[arg-type]
        assert np.array_equal(shown, FrameConverter(16)(half))


def test_a_picture_of_one_column_has_no_half() -> None:
    with pytest.raises(VideoError, match="1 x 40 rgb24 have no left half"):
        FrameConverter(16, "left")(av.VideoFrame.from_ndarray(noise(width=1), "rgb24"))


@pytest.mark.parametrize("crop", ["left", "right"])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("upside_down", [False, True])
@pytest.mark.parametrize("degrees", [0.0, 90.0, 180.0, 270.0])
def test_the_half_is_that_of_the_upright_picture(
    tmp_path: Path, degrees: float, mirrored: bool, upside_down: bool, crop: Crop
) -> None:
    rotation = (degrees, mirrored, upside_down)
    video = write_video(tmp_path / "v.mp4", [corners()] * 3, rotation=rotation)
    with VideoReader(video) as reader:
        frame = next(reader.frames()).frame
        whole, half = FrameConverter(64)(frame), FrameConverter(64, crop)(frame)
    columns = slice(0, 32) if crop == "left" else slice(32, 64)
    upper, lower = whole[16, columns][16].astype(int), whole[48, columns][16].astype(int)
    assert np.abs(half[16, 32].astype(int) - upper).max() <= 3
    assert np.abs(half[48, 32].astype(int) - lower).max() <= 3


def test_stored_halves_without_a_turn() -> None:
    assert stored_half("left", (1.0, 0.0, 0.0, 1.0)) == "left"
    assert stored_half("right", (-1.0, 0.0, 0.0, 1.0)) == "left"


@pytest.fixture(scope="module")
def two_eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Left dark, right bright; 2 s."""
    picture = plain(20, (128, 64))
    picture[:, 64:] = 235
    return write_video(tmp_path_factory.mktemp("eyes") / "eyes.mp4", [picture] * 50)


def test_models_of_both_eyes_and_of_the_whole_share_one_decoding(two_eyes: Path) -> None:
    specs = [
        ClipSpec(interval_seconds=0.5, num_frames=4, size=32, crop=crop) for crop in ("left", "right", "")
    ]
    with VideoReader(two_eyes) as reader:
        batches = list(ClipStream(reader, specs, ClipOptions(batch_size=4)))
    found = {batch.spec.crop: batch.frames for batch in batches}
    assert {crop: frames.shape for crop, frames in found.items()} == dict.fromkeys(
        ("left", "right", ""), (4, 4, 32, 32, 3)
    )
    assert found["left"].max() < 60 < 200 < found["right"].min()
    # Cut before the resize, no pixel of a half has anything of the other; cut after it, the border has.
    assert np.ptp(found["left"]) <= 3
    assert np.ptp(found[""][..., :16, :]) > 3


@pytest.mark.parametrize(("crop", "label", "scene"), [("left", "dark", "night"), ("right", "bright", "day")])
def test_a_bundle_sees_its_half(two_eyes: Path, tmp_path: Path, crop: Crop, label: str, scene: str) -> None:
    bundle = load_bundle(
        write_tiny_bundle(tmp_path / "bundle", crop=crop, view="binocular", format_version=3)
    )
    spec = bundle.manifest.clip_spec
    assert spec.crop == crop
    member = Member(backend=BrightnessBackend(), spec=spec, action_labels=ACTIONS, scene_labels=SCENES)
    result = run(two_eyes, member, Options())
    assert [segment.label for segment in result.segments] == [label]
    assert result.scenes[0].label == scene


def test_another_crop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"Invalid enum value 'top'.*crop"):
        load_bundle(write_tiny_bundle(tmp_path / "bundle", crop="top"))
    with pytest.raises(ValueError, match=r"crop 'top'; expected one of left, right, .*, or nothing"):
        ClipSpec(interval_seconds=0.5, crop="top")  # type: ignore[arg-type]
