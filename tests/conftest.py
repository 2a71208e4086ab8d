"""Fixtures of all tests."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("tests", deadline=None)  # a busy machine is no failure
settings.load_profile("tests")

# Tests import what they share (media.py, fakes.py) by its plain name.
sys.path[:0] = [str(Path(__file__).parent / folder) for folder in ("runtime", "runtime/doubles", "serve")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give those more time of which the first has to train a model, for minutes on a busy machine."""
    for item in items:
        if "learnt_run" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(autouse=True)
def _installed_from_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages name the package, not the folder of this checkout."""
    monkeypatch.setattr("tsm_runtime.commands.installing.installed_from", lambda: (False, "tsm-tal"))


@pytest.fixture
def no_log_left() -> Iterator[None]:
    """After the test, `--log-json` is off again."""
    from tsm_runtime.terminal import report_to

    yield
    report_to(None)
    logger = logging.getLogger("tsm_runtime")
    logger.handlers.clear()
    logger.propagate = True


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the small data sets beside the repository (TSM_SHARED_DATA names another place)."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TSM_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; TSM_SHARED_DATA names another folder")
    return folder


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return this process's copy of a folder that the first of all test processes fills."""
    root = factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        root = root.parent
    made, whole = root / f"made-{name}", root / f"made-{name}.whole"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            made.mkdir()
            make(made)
            whole.touch()
    return Path(shutil.copytree(made, factory.mktemp(name) / "copy"))


def draw_data(folder: Path) -> None:
    from tsm_train.synthetic.dataset import draw_dataset

    draw_dataset(folder, seed=2, training=3, validation=1, seconds=6.0, width=96, height=72, processes=1)


@pytest.fixture(scope="session")
def drawn_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ground_truth.json and videos/: three training videos and one for validation, 6 s each."""
    return made_once(tmp_path_factory, "drawn", draw_data)


@pytest.fixture(scope="session")
def learnt_run(tmp_path_factory: pytest.TempPathFactory, drawn_data: Path) -> Path:
    """Run folder of a small model that has learnt its three training videos by heart.

    It lies in `runs/` beside a copy of the data and `learnt.toml`, its configuration.
    """

    def learn(folder: Path) -> None:
        shutil.copytree(drawn_data, folder, dirs_exist_ok=True)
        train_by_heart(folder)

    return made_once(tmp_path_factory, "learnt", learn) / "runs" / "learnt"


def train_by_heart(drawn_data: Path) -> None:
    """Train in a folder of drawn data."""
    from tsm_train.config import load_config
    from tsm_train.training.train import train

    config = drawn_data / "learnt.toml"
    config.write_text(
        """
        name = "learnt"
        data.annotations = "ground_truth.json"
        data.videos = "videos"
        data.cache = "cache"
        data.validation_subset = "training"
        data.accept = ["capture-in-two-subsets"]
        model = {backbone = "mobilenet_v2", width_mult = 0.25, dropout = 0.0}
        clip = {interval_seconds = 0.5, size = 48}
        train = {epochs = 60, seed = 1, batch_size = 8, learning_rate = 0.01, validate_every = 30}
        augment = {flip = 0.0, crop_scale = 1.0, color = 0.0, time_jitter = 0.0}
        """
    )
    folder = drawn_data / "runs" / "learnt"
    train(load_config(config), folder, device="cpu", show_progress=False)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle, t = 0.5 s, whose model tells dark from bright by the mean brightness of a clip."""
    pytest.importorskip("onnx")
    from tiny_bundle import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("models") / "bundle")
