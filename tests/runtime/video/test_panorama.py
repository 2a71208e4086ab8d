"""Windows of panoramas: where they lie, the seam, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av import VideoFrame
from fakes import brightness_member, member_of
from media import write_video

from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import VideoError
from tsm_runtime.live.session import watch
from tsm_runtime.pipeline.run import run
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.panorama import PERSPECTIVES, WINDOWS, Window, WindowCropper
from tsm_runtime.video.sources import find_source

WIDTH, HEIGHT = 240, 120


def frame_of(picture: np.ndarray, format: str = "yuv420p") -> VideoFrame:  # noqa: A002
    frame = VideoFrame.from_ndarray(picture, "rgb24").reformat(format=format)
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    return frame


def marked(degrees: float) -> np.ndarray:
    """Return a dark panorama with a bright bar at a yaw, twelve degrees wide."""
    picture = np.full((HEIGHT, WIDTH, 3), 16, np.uint8)
    middle = round((degrees + 180) / 360 * WIDTH) % WIDTH
    columns = np.arange(middle - 4, middle + 4) % WIDTH
    picture[:, columns] = 235
    return picture


def bar(picture: np.ndarray) -> float | None:
    """Return where the bar is in a window, in degrees from its middle; None: it is not in it."""
    columns = picture.mean(axis=(0, 2))
    if columns.max() < 128:
        return None
    weights = np.maximum(columns - 60, 0)
    place = float((weights * (np.arange(len(columns)) + 0.5)).sum() / weights.sum())
    return place / len(columns) * 120 - 60


@pytest.mark.parametrize("degrees", [0, 45, 90, 150, 179, -170, -90, -30])
@pytest.mark.parametrize(("window", "yaw"), [*zip(WINDOWS, (0, 90, 180, -90), strict=True)])
def test_a_window_shows_what_is_around_its_yaw(window: Window, yaw: int, degrees: int) -> None:
    expected = (degrees - yaw + 180) % 360 - 180
    found = bar(FrameConverter(60, window)(frame_of(marked(degrees))))
    if abs(expected) < 54:
        assert found == pytest.approx(expected, abs=3)
    elif abs(expected) > 66:
        assert found is None


@pytest.mark.parametrize("format", ["yuv420p", "yuv444p", "rgb24", "nv12", "yuv420p10le"])
def test_pixel_formats(format: str) -> None:  # noqa: A002
    picture = FrameConverter(60, "window_back")(frame_of(marked(180), format))
    assert bar(picture) == pytest.approx(0, abs=3)


def test_rows_are_those_around_the_horizon() -> None:
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:20], picture[20:100], picture[100:] = 40, 128, 220
    found = FrameConverter(60, "window_front")(frame_of(picture, "rgb24")).mean(axis=(1, 2))
    assert np.abs(found[1:-1] - 128).max() < 8


def test_what_is_no_panorama_is_refused() -> None:
    square = frame_of(np.zeros((120, 120, 3), np.uint8))
    with pytest.raises(VideoError, match="120 x 120 yuv420p are no panorama: an equirectangular"):
        FrameConverter(60, "window_front")(square)


@pytest.mark.parametrize("degrees", [0, 30, 90, 140, 179, -170, -90, -30])
@pytest.mark.parametrize(("window", "yaw"), [*zip(PERSPECTIVES, (0, 90, 180, -90), strict=True)])
def test_a_perspective_window_is_what_a_camera_would_see(window: Window, yaw: int, degrees: int) -> None:
    angle = (degrees - yaw + 180) % 360 - 180
    found = bar(FrameConverter(60, window)(frame_of(marked(degrees))))
    if abs(angle) < 45:
        place = math.tan(math.radians(angle)) / math.tan(math.radians(55))
        assert found == pytest.approx(60 * place, abs=3)
    elif abs(angle) > 62:
        assert found is None


def test_an_upside_down_panorama_has_the_same_windows() -> None:
    panorama = np.random.default_rng(0).integers(0, 255, (6, 12, 3)).repeat(10, 0).repeat(10, 1)
    for window in (*WINDOWS, *PERSPECTIVES):
        cropper = WindowCropper(window, 30)
        upright, turned = (
            cropper(frame_of(picture.astype(np.uint8)), matrix).to_ndarray(format="rgb24").astype(int)
            for picture, matrix in (
                (panorama, (1.0, 0.0, 0.0, 1.0)),
                (panorama[::-1, ::-1], (-1.0, 0.0, 0.0, -1.0)),
            )
        )
        assert np.abs(upright - turned[::-1, ::-1]).mean() < 6


@pytest.fixture
def panorama(tmp_path: Path) -> Path:
    """Bright behind for the first second, dark all around for the second one."""
    bright, dark = marked(180), np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    bright[:, :40] = bright[:, -40:] = 250
    bright[:, 40:200] = 128
    return write_video(tmp_path / "panorama.mp4", [bright] * 25 + [dark] * 25)


@pytest.mark.parametrize("windows", [WINDOWS, PERSPECTIVES])
def test_what_one_window_finds_is_found_in_the_panorama(panorama: Path, windows: tuple[Window, ...]) -> None:
    """Live gives what a file gives."""
    member = brightness_member()
    whole = run(panorama, member)
    assert "bright" not in {segment.label for segment in whole.segments}
    seen = replace(member, windows=windows)
    found = run(panorama, seen)
    bright = [s for s in found.segments if s.label == "bright"]
    assert [(s.start_seconds, s.end_seconds) for s in bright] == [(0.0, 1.0)]
    assert bright[0].score > 0.5
    assert found.members == ()
    events = [*watch(find_source(str(panorama)), seen)]
    live = [(e.label, e.start, e.end) for e in events if getattr(e, "label", "")]
    assert sorted(live) == sorted((s.label, s.start_seconds, s.end_seconds) for s in found.segments)


def test_other_views_keep_their_whole_picture() -> None:
    member = replace(brightness_member(), windows=WINDOWS)
    assert [m.spec.crop for m in replace(member, view="panoramic").by_window()] == list(WINDOWS)
    assert [m.spec.crop for m in replace(member, view="third_person").by_window()] == [""]


def test_a_spec_knows_its_crops() -> None:
    assert member_of(ClipSpec(interval_seconds=0.5, crop="window_left")).spec.crop == "window_left"
    with pytest.raises(ValueError, match="crop 'up'; expected one of left, right, window_front"):
        ClipSpec(interval_seconds=0.5, crop="up")  # type: ignore[arg-type]
