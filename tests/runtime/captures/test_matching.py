"""Recordings of one scene are placed on one time line; others are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from media import write_video
from sounds import RATE, scene, write_sound

from tsm_runtime.captures.matching.find import find_groups, find_offsets, offsets_to_csv
from tsm_runtime.captures.matching.gcc_phat import gcc_phat
from tsm_runtime.captures.matching.match import Recording, match
from tsm_runtime.captures.offsets import read_offsets
from tsm_runtime.errors import UsageError

SCENE = scene(200.0, seed=3)


def cut(path: Path, begin: float, seconds: float, *, speed: float = 0.0, noise: float = 0.0) -> Path:
    """Write [begin, begin + seconds) of the scene, played faster by `speed`."""
    places = (begin + np.arange(round(seconds * RATE)) / RATE * (1 + speed)) * RATE
    samples = np.interp(places, np.arange(len(SCENE)), SCENE)
    samples += noise * np.random.default_rng(int(begin)).normal(size=len(samples))
    return write_sound(path, samples.astype(np.float32), codec="pcm_s16le", picture_seconds=0)


@pytest.mark.parametrize(
    ("begin", "speed", "noise"),
    [(18.13, 0.0, 0.0), (11.077, 0.001, 0.0), (2.5, -0.001, 0.02), (18.13, 0.0003, 0.05)],
)
def test_offset_of_a_pair(tmp_path: Path, begin: float, speed: float, noise: float) -> None:
    reference = Recording(cut(tmp_path / "a.wav", 8.0, 20.0))
    found = match(reference, Recording(cut(tmp_path / "b.wav", begin, 20.0, speed=speed, noise=noise)))
    assert found is not None
    assert found.is_certain
    assert found.offset_seconds == pytest.approx(begin - 8.0, abs=0.02)
    assert found.by == "sound"


def test_a_long_recording_that_drifts(tmp_path: Path) -> None:
    reference = Recording(cut(tmp_path / "a.wav", 0.0, 190.0))
    found = match(reference, Recording(cut(tmp_path / "b.wav", 7.3, 185.0, speed=0.0008)))
    assert found is not None
    assert found.is_certain
    assert found.offset_seconds == pytest.approx(7.3, abs=0.04)
    assert found.drift == pytest.approx(0.0008, abs=0.0002)


def test_other_scenes_repeats_and_silence_are_not_placed(tmp_path: Path) -> None:
    reference = Recording(cut(tmp_path / "a.wav", 0.0, 20.0))
    other = Recording(cut(tmp_path / "b.wav", 60.0, 20.0))
    found = match(reference, other)
    assert found is None or not found.is_certain
    loop = np.tile(scene(1.0, seed=5), 20)
    loops = [
        Recording(write_sound(tmp_path / f"{n}.wav", loop[n * 3000 :], codec="pcm_s16le", picture_seconds=0))
        for n in range(2)
    ]
    found = match(*loops)
    assert found is None or not found.is_certain
    silent = Recording(
        write_sound(tmp_path / "s.wav", np.zeros(20 * RATE, np.float32), codec="pcm_s16le", picture_seconds=0)
    )
    assert match(reference, silent) is None


def test_steady_noise_is_placed_by_its_waveform() -> None:
    hiss = np.random.default_rng(2).normal(size=12 * 8000).astype(np.float32)
    peak = gcc_phat(hiss[: 8 * 8000], hiss[3 * 8000 :] + 0.5, 8000)
    assert peak is not None
    assert peak.offset_seconds == pytest.approx(3.0, abs=0.001)
    assert peak.strength > 10 * peak.second
    assert gcc_phat(hiss, 0 * hiss, 8000) is None


def test_pictures_place_what_has_no_sound(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    levels = np.repeat(rng.integers(20, 220, (40, 6, 8)), rng.integers(4, 40, 40), axis=0)[:600]
    pictures = [np.kron(level, np.ones((8, 8)))[..., None].repeat(3, 2).astype(np.uint8) for level in levels]
    reference = Recording(write_video(tmp_path / "a.mp4", pictures[:450]))
    found = match(reference, Recording(write_video(tmp_path / "b.mp4", pictures[130:])))
    assert found is not None
    assert (found.is_certain, found.by) == (True, "picture")
    assert found.offset_seconds == pytest.approx(130 / 25, abs=0.04)


def test_a_capture_in_the_layout_of_360x(tmp_path: Path) -> None:
    for folder in ("panoramic", "third_person", "binocular/c"):
        (tmp_path / folder).mkdir(parents=True)
    begins = {"panoramic/c.wav": 5.0, "third_person/c.wav": 2.0, "binocular/c/clip1.wav": 9.0}
    for name, begin in begins.items():
        cut(tmp_path / name, begin, 20.0).rename((tmp_path / name).with_suffix(".mkv"))
    cut(tmp_path / "x.wav", 120.0, 15.0).rename(tmp_path / "binocular/c/clip2.mkv")
    root, (group,) = find_groups(tmp_path)
    found, warnings = find_offsets(group)
    assert warnings == []
    (tmp_path / "offsets.csv").write_text(offsets_to_csv(root, found))
    offsets = read_offsets(tmp_path / "offsets.csv")
    assert offsets.pop("binocular/c/clip2") is None
    assert offsets == pytest.approx(
        {"panoramic/c": 0.0, "third_person/c": -3.0, "binocular/c/clip1": 4.0}, abs=0.02
    )


def test_what_does_not_meet_the_reference_goes_through_another(tmp_path: Path) -> None:
    names = ("a.mkv", "b.mkv", "c.mkv")
    for name, begin in zip(names, (0.0, 12.0, 24.0), strict=True):
        cut(tmp_path / "w.wav", begin, 20.0).rename(tmp_path / name)
    _, (group,) = find_groups(tmp_path)
    found, _ = find_offsets(group)
    assert [each.offset_seconds for each in found] == pytest.approx([0.0, 12.0, 24.0], abs=0.02)


def test_groups(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no videos"):
        find_groups(tmp_path)
    for name in ("panoramic/a.mp4", "panoramic/b.mp4", "third_person/a.mp4", "binocular/b/clip1.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    _, groups = find_groups(tmp_path)
    assert [(group.capture_id, len(group.videos)) for group in groups] == [("a", 2), ("b", 2)]
    _, groups = find_groups(tmp_path / "b")
    assert [group.capture_id for group in groups] == ["b"]
    with pytest.raises(UsageError, match="no such capture"):
        find_groups(tmp_path / "c")
