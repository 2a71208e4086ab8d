"""Ranking of what to label: each reason alone, the budget, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entry import Command, command
from media import write_levels

from tsm_runtime.results import BACKGROUND
from tsm_serve.commands.suggest import main
from tsm_serve.suggest.evidence import Evidence, disagreement, entropy, margin_doubt
from tsm_serve.suggest.ranking import Weights, suggest

LABELS = ("run", "jump", BACKGROUND)
NOTHING = Weights(entropy=0, margin=0, disagreement=0, novelty=0, rarity=0)


def evidence(name: str, *views: list[list[float]], **more: Any) -> Evidence:
    arrays = [np.array(view, np.float32) for view in views]
    return Evidence(
        video_id=name,
        views=arrays,
        starts=np.arange(len(arrays[0])) * 0.5,
        cell_seconds=0.5,
        labels=LABELS,
        **more,
    )


SURE = [[0.98, 0.01, 0.01]] * 4
TORN = [[0.49, 0.49, 0.02]] * 4
LOST = [[1 / 3, 1 / 3, 1 / 3]] * 4


def weights(**one: float) -> Weights:
    return Weights(
        **{**dict.fromkeys(("entropy", "margin", "disagreement", "novelty", "rarity"), 0.0), **one}
    )


def order(*videos: Evidence, by: Weights) -> list[str]:
    return [found.video_id for found in suggest(videos, weights=by)]


def test_entropy_and_margin_are_those_of_the_formula() -> None:
    assert entropy(np.array([[1 / 3, 1 / 3, 1 / 3], [1, 0, 0]], np.float32)) == pytest.approx(
        [1, 0], abs=1e-6
    )
    assert margin_doubt(np.array([[0.5, 0.5, 0], [0.9, 0.1, 0]], np.float32)) == pytest.approx([1, 0.2])
    half = np.full((1, 2), 0.5, np.float32)
    assert entropy(np.array([[0.5, 0.5, 0.5]], np.float32)) == pytest.approx([1])  # sigmoid
    assert disagreement([half]) == pytest.approx([0])
    opposite = [np.array([[1, 0]], np.float32), np.array([[0, 1]], np.float32)]
    assert disagreement(opposite) == pytest.approx([1], abs=1e-6)


def test_each_reason_alone() -> None:
    sure, torn, lost = evidence("sure", SURE), evidence("torn", TORN), evidence("lost", LOST)
    assert order(sure, torn, lost, by=weights(entropy=1)) == ["lost", "torn", "sure"]
    assert order(sure, torn, by=weights(margin=1)) == ["torn", "sure"]
    apart = evidence("apart", SURE, [[0.01, 0.98, 0.01]] * 4)
    assert order(evidence("same", SURE, SURE), apart, by=weights(disagreement=1)) == ["apart", "same"]
    rare = evidence("rare", [[0.1, 0.9, 0.0]] * 4)
    assert order(sure, evidence("sure 2", SURE), rare, by=weights(rarity=1))[0] == "rare"


def test_what_looks_like_something_labelled_comes_last() -> None:
    known = evidence("known", SURE, is_labelled=True, features=np.array([[1, 0]] * 4, np.float32))
    alike = evidence("alike", SURE, features=np.array([[1, 0.01]] * 4, np.float32))
    other = evidence("other", SURE, features=np.array([[0, 1]] * 4, np.float32))
    twin = evidence("twin", SURE, features=np.array([[0.01, 1]] * 4, np.float32))
    assert order(known, alike, other, twin, by=weights(novelty=1))[:1] == ["other"]
    assert "known" not in order(known, alike, by=weights(novelty=1))
    found = suggest([known, alike, other, twin], weights=weights(novelty=1))
    assert found[0].reason == "nothing labelled looks like it"
    assert found[-1].value < 0.01  # the twin of what was just chosen, or what is known


def test_the_budget_is_kept() -> None:
    videos = [evidence(f"v{n}", LOST) for n in range(5)]
    assert len(suggest(videos, budget_seconds=4.1)) == 2
    assert suggest(videos, budget_seconds=1) == []
    long = evidence("long", LOST * 15)
    parts = suggest([long], by_moment=True, budget_seconds=10)
    assert [(p.start_seconds, p.end_seconds) for p in parts] == [(0.0, 10.0)]


def test_moments_are_the_doubtful_ones() -> None:
    (found,) = suggest([evidence("v", [*SURE, *LOST[:2], *SURE])])
    assert (2.0, 3.0) in [(start, end) for start, end in found.moments] or found.moments[0][0] <= 2.0
    assert any(start <= 2.0 < end for start, end in found.moments)


def test_nothing_to_rank() -> None:
    assert suggest([]) == []
    assert suggest([evidence("known", SURE, is_labelled=True)]) == []


@pytest.fixture
def run_suggest(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    return command("tsm-suggest", main, monkeypatch, capfdbinary)


def test_the_command(run_suggest: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    write_levels(folder / "clear.mp4", [(25, 2.0)])
    write_levels(folder / "between.mp4", [(77, 2.0)])
    write_levels(folder / "known.mp4", [(25, 2.0)])
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"database": {"known": {"subset": "training", "annotations": []}}}))
    outcome = run_suggest(folder, "--model", tiny_bundle, "--truth", truth, "--mirror")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)["suggestions"]
    assert [one["video_id"] for one in found] == ["between", "clear"]
    assert found[0]["reasons"]["disagreement"] == 0  # brightness is the same in a mirror
    table = run_suggest(folder, "--model", tiny_bundle, "--format", "csv", "--budget", "0.04").out
    assert table.splitlines()[0] == "video,start,end,value,reason"
    assert len(table.splitlines()) == 2
    (folder / "broken.mp4").write_bytes(b"x")
    assert run_suggest(folder, "--model", tiny_bundle).code == 1
