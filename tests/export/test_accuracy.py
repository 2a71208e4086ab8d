"""Accuracy reports: scores, agreement and differences, against values worked out by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from fakes import ACTIONS, SCENES, BrightnessBackend, seg
from media import write_levels
from tiny_bundle import tiny_model

from tsm_export.accuracy import OnnxBackend, accuracy_reports, compare_results, mean_differences, run_models
from tsm_export.footage import Validation
from tsm_export.summary import accuracy_text
from tsm_runtime.backends.base import Backend, BlockingBackend, Scores
from tsm_runtime.bundle.manifest import ModelFile
from tsm_runtime.bundle.reports import AccuracyReport
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import CheckError, RunError
from tsm_runtime.formats.ground_truth import VideoAnnotation
from tsm_runtime.pipeline import reading as videos
from tsm_runtime.results import Segment
from tsm_train.samples.clips import Labels

SPEC = ClipSpec(interval_seconds=0.5, num_frames=4, size=32)
LABELS = Labels(ACTIONS, SCENES)
DARK, GREY, BRIGHT = 25, 128, 230


@dataclass
class Blind(BlockingBackend):
    """Says background of any clip but every `nth`, of which it says what the bright-and-dark model says."""

    nth: int
    name: str = "blind"
    seen: int = field(default=0, init=False)

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        scores = BrightnessBackend().infer(frames)
        action = scores.action.copy()
        for row in action:
            self.seen += 1
            if self.seen % self.nth:
                row[:] = (0.0, 0.0, 1.0)
        return Scores(action, scores.scene)


def annotated(name: str, scene: str | None, *segments: Segment) -> VideoAnnotation:
    return VideoAnnotation(
        video_id=name, subset="validation", duration_seconds=None, scene=scene, segments=segments
    )


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Validation:
    """Four and three seconds: 8 and 6 clips, 8 of them of an action."""
    folder = tmp_path_factory.mktemp("validation")
    first = write_levels(folder / "first.mp4", [(DARK, 1), (GREY, 1), (BRIGHT, 1), (GREY, 1)])
    second = write_levels(folder / "second.mp4", [(BRIGHT, 2), (GREY, 1)])
    return Validation(
        subset="validation",
        videos=(
            (annotated("first", "night", seg("dark", 0, 1), seg("bright", 2, 3)), first),
            (annotated("second", "day", seg("bright", 0, 2)), second),
        ),
    )


def reports_of(validation: Validation, *others: Backend) -> Sequence[AccuracyReport]:
    models = {"fp32": BrightnessBackend(), **{str(i): other for i, other in enumerate(others)}}
    reports = accuracy_reports(models, LABELS, SPEC, validation)
    assert list(reports) == list(map(str, range(len(others))))
    return list(reports.values())


def test_the_same_model_agrees_with_itself(validation: Validation) -> None:
    (report,) = reports_of(validation, BrightnessBackend())
    assert (report.subset, report.num_videos, report.num_clips) == ("validation", 2, 14)
    assert report.top1_agreement == {"action_scores": 1.0, "scene_scores": 1.0}
    assert report.same_segments == 1.0
    assert report.scores == report.fp32_scores
    assert report.scores["map"] == report.scores["map_0.95"] == 1.0  # all bounds are right
    assert msgspec.json.decode(msgspec.json.encode(report), type=AccuracyReport) == report


def test_a_model_that_misses_most(validation: Validation) -> None:
    """It sees every eighth clip of 14: the last of the first video, which is background, and no action."""
    (report,) = reports_of(validation, Blind(8))
    assert report.scores["map"] == 0.0
    assert report.fp32_scores["map"] == 1.0
    assert report.top1_agreement["action_scores"] == pytest.approx(6 / 14)  # the clips of background
    assert report.top1_agreement["scene_scores"] == 1.0


def test_several_models_are_compared_with_the_first(validation: Validation) -> None:
    worse, same = reports_of(validation, Blind(100), BrightnessBackend())
    assert worse.scores["map"] < same.scores["map"] == 1.0
    assert worse.fp32_scores == same.fp32_scores
    assert worse.same_segments == 0.0  # the blind model finds none
    assert same.same_segments == 1.0


def test_same_segments_have_the_same_bounds(validation: Validation) -> None:
    """Of three segments and two, one is in both: 2 / 5."""
    models: dict[str, Backend] = {"fp32": BrightnessBackend(), "other": BrightnessBackend()}
    results = run_models(models, LABELS, SPEC, validation)
    (video_id, result), *_ = results["fp32"].items()
    kept = result.segments[0]
    longer = dataclasses.replace(kept, end_seconds=kept.end_seconds + 0.5)
    further = dataclasses.replace(kept, start_seconds=50.0, end_seconds=51.0)
    found = {
        "fp32": (kept, longer, further),
        "other": (kept, dataclasses.replace(further, label=LABELS.actions[1])),
    }
    changed = {
        name: {video_id: dataclasses.replace(result, segments=segments)} for name, segments in found.items()
    }
    assert kept.label != LABELS.actions[1]
    assert compare_results(changed, validation)["other"].same_segments == pytest.approx(2 / 5)


def test_no_segments_are_not_called_the_same(validation: Validation) -> None:
    """Where neither model finds a segment, there is nothing to compare, and the summary says so."""
    blind = {"fp32": Blind(100), "int8": Blind(100)}
    report = accuracy_reports(blind, LABELS, SPEC, validation)["int8"]
    assert report.same_segments is None
    line = accuracy_text(ModelFile(sha256="0" * 64, precision="int8", accuracy=report))
    assert "action_scores 100.0 %" in line
    assert line.endswith("segments not compared: neither model finds one")


def test_scenes_count_by_video(validation: Validation) -> None:
    """The first video has as much dark as bright: its scene is what the model says, whatever that is."""
    results = run_models({"fp32": BrightnessBackend()}, LABELS, SPEC, validation)
    found = {name: result.scenes[0].label for name, result in results["fp32"].items()}
    right = sum(found[video.video_id] == video.scene for video, _ in validation.videos)
    (report,) = reports_of(validation, BrightnessBackend())
    assert report.scores["scene_top1"] == right / 2


def test_each_video_is_decoded_once(validation: Validation, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    class Counted(videos.VideoReader):
        def __init__(self, path: Path, *arguments: Any, **options: Any) -> None:
            opened.append(path)
            super().__init__(path, *arguments, **options)

    monkeypatch.setattr(videos, "VideoReader", Counted)
    reports_of(validation, BrightnessBackend(), Blind(2), Blind(3))
    assert opened == [path for _, path in validation.videos]


def test_mean_differences(validation: Validation) -> None:
    """Moved probability of a clip: what the blind model puts on background and the other did not."""
    models: dict[str, Backend] = {"fp32": BrightnessBackend(), "blind": Blind(100)}
    results = run_models(models, LABELS, SPEC, validation)
    moved = []
    for result in results["fp32"].values():
        assert result.scores is not None
        moved += (1 - result.scores.action[:, 2].astype(np.float64)).tolist()
    differences = mean_differences(results["fp32"], results["blind"])
    assert differences["action_scores"] == pytest.approx(np.mean(moved), rel=1e-5)
    assert differences["scene_scores"] == 0
    assert compare_results(results, validation)["blind"].num_clips == len(moved) == 14


def test_an_onnx_file_is_a_backend(validation: Validation) -> None:
    """The tiny model computes what the brightness backend does."""
    backend = OnnxBackend(tiny_model().SerializeToString(), 1)
    (report,) = reports_of(validation, backend)
    assert report.top1_agreement == {"action_scores": 1.0, "scene_scores": 1.0}
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 32, 32, 3), np.uint8)
    expected, got = BrightnessBackend().infer(frames), backend.infer(frames)
    np.testing.assert_allclose(got.action, expected.action, atol=1e-5)
    assert got.scene is not None
    assert expected.scene is not None
    np.testing.assert_allclose(got.scene, expected.scene, atol=1e-5)


def test_a_video_that_cannot_be_read(
    validation: Validation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its instances count as missed by every model; the clips are those of the others."""
    lost = annotated("lost", "day", seg("bright", 0, 1))
    more = Validation(subset="validation", videos=(*validation.videos, (lost, tmp_path / "lost.mp4")))
    (report,) = reports_of(more, BrightnessBackend())
    assert "accuracy counts this video as one where nothing is found: " in caplog.text
    assert (report.num_videos, report.num_clips) == (2, 14)
    assert 0 < report.scores["map"] == report.fp32_scores["map"] < 1
    only = Validation(subset="validation", videos=more.videos[-1:])
    with pytest.raises(CheckError, match="none of the 1 validation videos gave a result"):
        reports_of(only, BrightnessBackend())


def test_scores_that_are_no_numbers(validation: Validation) -> None:
    class Broken(BlockingBackend):
        name = "broken"

        def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
            return Scores(np.full((len(frames), 3), np.nan, np.float32), None)

    with pytest.raises(RunError, match="not numbers"):
        reports_of(validation, Broken())
