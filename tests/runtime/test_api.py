"""`from tsm_runtime import load, run, stream`: the example of the README, threads, and what is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ACTIONS, SCENES, BrightnessBackend
from media import write_levels

pytest.importorskip("onnx")

from tiny_online import write_online_bundle

import tsm_runtime
from tsm_runtime import load, run, stream
from tsm_runtime.api import Model
from tsm_runtime.backends.base import Scores
from tsm_runtime.backends.online import OnlineBackend
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.finding import demo_folder
from tsm_runtime.errors import BundleError, UsageError
from tsm_runtime.live.events import End, LiveSegment, Start
from tsm_runtime.live.options import LiveOptions
from tsm_runtime.pipeline.options import Options
from tsm_runtime.results import Result
from tsm_runtime.segments.find import merge_intervals

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "library.py"
SCENE = [(20, 1.0), (128, 0.5), (235, 1.5)]
FOUND = [("dark", 0.0, 1.0), ("bright", 1.5, 3.0)]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_levels(tmp_path_factory.mktemp("media") / "scene.mp4", SCENE)


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return load(tiny_bundle, num_threads=1)


def found_in(result: Result) -> list[tuple[str, float, float]]:
    return [(s.label, s.start_seconds, s.end_seconds) for s in result.segments]


def test_the_example_runs(tmp_path: Path) -> None:
    """On the demo's bundle and video; what it prints is what the demo finds."""
    (tmp_path / "bundle").symlink_to(demo_folder() / "bundle")
    (tmp_path / "video.mp4").symlink_to(demo_folder() / "video.mp4")
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    at_once = [line for line in lines if " to " in line]
    as_they_end = [line for line in lines if "has ended" in line]
    assert at_once[0] == " 2.16 to  3.97 s: jumping"
    reported, ended = (
        [re.findall(r": ([a-z ]+?)(?: has ended|$)", line)[0] for line in part]
        for part in (at_once, as_they_end)
    )
    assert len(reported) == 9
    assert [reported[1], reported[0], *reported[2:]] == ended  # the second one ends first
    assert lines[9].startswith("(60, 9) float32 (")


def test_the_readme_quotes_the_example() -> None:
    readme = (ROOT / "README.md").read_text()
    blocks = [b for b in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "import load" in b]
    assert blocks == [EXAMPLE.read_text()]


def test_scores_of_intervals_are_arrays(video: Path, model: Model) -> None:
    result = run(video, model)
    assert found_in(result) == FOUND
    assert result.scores is not None
    assert result.scores.indices.tolist() == [0, 1, 2, 3, 4, 5]
    assert result.scores.action.shape == (6, len(ACTIONS))
    assert result.scores.scene is not None
    assert result.scores.scene.shape == (6, len(SCENES))
    np.testing.assert_allclose(result.scores.action.sum(axis=1), 1, atol=1e-6)
    assert (model.action_labels, model.scene_labels, model.interval_seconds) == (ACTIONS, SCENES, 0.5)
    assert tuple(merge_intervals(result.scores, model.action_labels, 0.5)) == result.segments
    part = run(str(video), model, Options(start_seconds=1.5, batch_size=4))
    assert found_in(part) == FOUND[1:]


def test_a_stream_reports_its_model(video: Path, model: Model) -> None:
    events = list(stream(video, model, LiveOptions(show_open=False)))
    start, end = events[0], events[-1]
    assert isinstance(start, Start)
    assert isinstance(end, End)
    assert start.models[0].bundle_sha256 == model.bundle.manifest_sha256
    assert [(e.label, e.start, e.end) for e in events if isinstance(e, LiveSegment)] == FOUND
    assert end.intervals == 6


def test_several_threads_share_a_model(video: Path, model: Model) -> None:
    expected = run(video, model)

    def work(number: int) -> object:
        if number % 2:
            return [(e.label, e.start, e.end) for e in stream(video, model) if isinstance(e, LiveSegment)]
        return run(video, model, Options(batch_size=1 + number % 3))

    with ThreadPoolExecutor(6) as pool:
        for number, found in enumerate(pool.map(work, range(18))):
            assert found == (FOUND if number % 2 else expected)


def test_threads_with_an_online_model_keep_their_states_apart(video: Path, tmp_path: Path) -> None:
    with load(write_online_bundle(tmp_path / "bundle"), online=True, num_threads=1) as model:
        assert isinstance(model.member().backend, OnlineBackend)
        assert model.name.endswith("online")
        expected = run(video, model)
        alone = [(e.label, e.score) for e in stream(video, model) if isinstance(e, LiveSegment)]
        assert alone == [(s.label, round(s.score, 6)) for s in expected.segments]
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: run(video, model), range(4)))
            streams = list(
                pool.map(
                    lambda _: [
                        (e.label, e.score) for e in stream(video, model) if isinstance(e, LiveSegment)
                    ],
                    range(4),
                )
            )
    assert results == [expected] * 4
    assert streams == [alone] * 4


def test_an_ensemble(video: Path, model: Model) -> None:
    result = run(video, [model, model], weights=[1, 3])
    assert found_in(result) == FOUND
    assert len(result.members) == 2
    events = list(stream(video, [model, model], weights=[1, 3]))
    assert [(e.label, e.start, e.end) for e in events if isinstance(e, LiveSegment)] == FOUND
    with pytest.raises(UsageError, match="1 weight for 2 members"):
        run(video, [model, model], weights=[1])


def test_closing(tiny_bundle: Path, video: Path) -> None:
    with load(tiny_bundle) as model:
        assert found_in(run(video, model)) == FOUND
    model.close()
    with pytest.raises(ValueError, match="is closed"):
        run(video, model)


def test_what_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"has no model\.int8\.onnx"):
        load(tiny_bundle, precision="int8")
    with pytest.raises(BundleError, match=r"has no model\.online\.onnx"):
        load(tiny_bundle, online=True)
    with pytest.raises(ValueError, match="one precision"):
        load(tiny_bundle, online=True, precision="fp32")
    with pytest.raises(AttributeError, match="no attribute 'walk'"):
        tsm_runtime.walk  # noqa: B018


def test_the_default_model_is_that_of_the_command(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TSM_MODEL", str(tiny_bundle))
    assert load().action_labels == ACTIONS


def test_batches_overlap_as_in_the_command(tiny_bundle: Path, video: Path) -> None:
    """The next batch is submitted before the result of the one before is fetched."""

    class Watched(BrightnessBackend):
        in_flight = 2
        calls: list[str] = []  # noqa: RUF012

        def submit(self, frames: np.ndarray) -> Any:
            self.calls.append("submit")
            return super().submit(frames)

        def result(self, batch: Any) -> Scores:
            self.calls.append("result")
            return super().result(batch)

    with Model(load_bundle(tiny_bundle), Watched()) as opened:
        found = run(video, opened, options=Options(batch_size=2))
    assert found_in(found) == FOUND
    assert Watched.calls[:3] == ["submit", "submit", "result"]
    assert Watched.calls.count("submit") == Watched.calls.count("result") == 3
