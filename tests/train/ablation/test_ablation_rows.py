"""Rows from files of segments that find something: the figures of tsm-eval, the fusion of tsm-fuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from entry import command

from tsm_runtime.commands import evaluate as eval_cli
from tsm_runtime.commands import fuse as fuse_cli
from tsm_runtime.formats.read_write import read_segments
from tsm_runtime.fusion.member_file import read_member
from tsm_runtime.fusion.options import FusionOptions
from tsm_runtime.results import Segment
from tsm_train.ablation.config import EnsembleConfig
from tsm_train.ablation.ensembles import Mixture, mixtures, write_fused
from tsm_train.ablation.rows import Row, Scored, compared, score_file
from tsm_train.ablation.videos import truth_of, truth_to_json
from tsm_train.data.video import TrainingVideo

TRUTH = {
    "v1": [("wave", 1.0, 3.0), ("jump", 4.0, 5.0)],
    "v2": [("jump", 0.5, 2.5)],
    "v3": [("wave", 2.0, 4.0), ("jump", 5.0, 6.0)],
}
SCENES = {"v1": "park", "v2": "park", "v3": "hall"}


@pytest.fixture
def videos() -> tuple[TrainingVideo, ...]:
    return tuple(
        TrainingVideo(
            video_id=video,
            path=Path(f"{video}.mp4"),
            capture=video,
            subset="validation",
            segments=tuple(Segment(label=x, start_seconds=s, end_seconds=e, score=1.0) for x, s, e in found),
            scene=SCENES[video],
            duration_seconds=8.0,
        )
        for video, found in TRUTH.items()
    )


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three members: ever later bounds, and one false segment in each video."""
    paths = []
    for number, late in enumerate((0.0, 0.25, 0.5)):
        results = {
            video: [
                {"label": label, "segment": [start + late, end], "score": 0.9 - late / 2 - start / 20}
                for label, start, end in found
            ]
            + [{"label": "wave", "segment": [6.0 + late, 7.0], "score": 0.3 + 0.2 * number}]
            for video, found in TRUTH.items()
        }
        scenes = {video: [{"label": "park", "score": 0.6 + 0.1 * number}] for video in TRUTH}
        path = tmp_path / f"member{number}.json"
        path.write_text(json.dumps({"version": "x", "results": results, "scenes": scenes}))
        paths.append(path)
    return paths


def test_a_file_is_judged_as_tsm_eval_does(
    videos: tuple[TrainingVideo, ...],
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    tsm_eval = command("tsm-eval", eval_cli.main, monkeypatch, capfdbinary)
    (tmp_path / "truth.json").write_text(truth_to_json(videos))
    for path in files:
        scored = score_file(path, videos)
        done = tsm_eval(tmp_path / "truth.json", path, "--json", "--bootstrap", 2000)
        assert done.code == 0, done.err
        found = json.loads(done.out)
        assert scored.evaluation.average_map == found["average"]
        assert 0.1 < found["average"] < 1 or path == files[0]
        assert scored.tiou == found["tiou"]
        assert scored.scene_top1 == found["scene"]["top1"] == pytest.approx(2 / 3)
        interval = compared(row_of(path, scored), scored, scored).map_interval
        assert interval is not None
        assert {"low": interval.low, "high": interval.high} == found["bootstrap"]["average"]


def row_of(path: Path, scored: Scored) -> Row:
    return Row(
        name="x", kind="member", segments=path.name, map=scored.evaluation.average_map, tiou=scored.tiou
    )


def test_the_difference_is_to_the_first_row(videos: tuple[TrainingVideo, ...], files: list[Path]) -> None:
    first, last = (score_file(path, videos) for path in (files[0], files[2]))
    row = compared(row_of(files[2], last), last, first)
    assert row.difference == last.evaluation.average_map - first.evaluation.average_map
    assert row.difference is not None
    assert row.difference < 0
    assert row.difference_interval is not None
    assert row.difference_interval.low <= row.difference <= row.difference_interval.high < 0
    same = compared(row_of(files[0], first), first, first)
    assert (same.difference, same.difference_interval) == (None, None)


def test_members_are_fused_as_tsm_fuse_does(
    videos: tuple[TrainingVideo, ...],
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    tsm_fuse = command("tsm-fuse", fuse_cli.main, monkeypatch, capfdbinary)
    members = {path.stem: read_member(path) for path in files}
    mixture = Mixture(name="x", weights=(0.5, 0.3, 0.2), options=FusionOptions(iou=0.6))
    written = write_fused(mixture, members, tmp_path / "mine.json")
    done = tsm_fuse(*files, "--weights", "0.5,0.3,0.2", "--iou", "0.6", "-o", tmp_path / "theirs.json")
    assert done.code == 0, done.err
    mine, theirs = (tmp_path / f"{name}.json" for name in ("mine", "theirs"))
    assert read_segments(mine) == read_segments(theirs)
    assert json.loads(mine.read_text())["scenes"] == json.loads(theirs.read_text())["scenes"]
    assert written["weights"] == {"member0": 0.5, "member1": 0.3, "member2": 0.2}


def test_which_ensembles_are_rows(videos: tuple[TrainingVideo, ...], files: list[Path]) -> None:
    members, truth = [read_member(path) for path in files], truth_of(videos)
    scores = [score_file(path, videos).evaluation.average_map for path in files]
    found = mixtures(EnsembleConfig(), scores, members, truth)
    assert [m.name for m in found] == ["ensemble-validation", "ensemble-equal", "ensemble-fitted"]
    assert found[0].weights == tuple(round(score, 6) for score in scores)
    assert found[1].weights == (1.0, 1.0, 1.0)
    assert found[2].is_fitted
    assert 0 <= float(str(found[2].detail["cross_validated_map"])) <= 1
    plain = EnsembleConfig(weights="equal", fitted=False)
    assert [m.name for m in mixtures(plain, scores, members, truth)] == ["ensemble-equal"]
    given = EnsembleConfig(weights=(3.0, 2.0, 1.0), fitted=False)
    assert [m.weights for m in mixtures(given, scores, members, truth)] == [(3.0, 2.0, 1.0), (1.0,) * 3]
    # One video alone could not check what was fitted to it.
    one = {"v1": truth["v1"]}
    assert len(mixtures(EnsembleConfig(), scores, members, one)) == 2
