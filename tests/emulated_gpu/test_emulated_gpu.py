"""pycuda, cuda.bindings and FFmpeg's NVDEC code, all real, on an emulated driver.

A process whose libcuda.so.1 and libnvcuvid.so.1 are the emulated ones runs the tests in checks/. Needs g++,
and pycuda in the folder that TSM_PYCUDA names; TSM_REQUIRE_EMULATED_GPU=1 turns a skip into a failure.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def skip(reason: str) -> None:
    if os.environ.get("TSM_REQUIRE_EMULATED_GPU") == "1":
        raise AssertionError(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a process that finds the emulated libraries."""
    if shutil.which("g++") is None:
        skip("no g++")
    pycuda = Path(os.environ.get("TSM_PYCUDA", "none"))
    if not (pycuda / "pycuda").is_dir():
        skip("TSM_PYCUDA names no folder with pycuda")
    paths = [str(pycuda), *filter(None, [os.environ.get("PYTHONPATH")])]
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    folder = tmp_path_factory.mktemp("emulated")
    subprocess.run([sys.executable, HERE / "build.py", folder], check=True, env=given)
    # pycuda links nothing, as the library that it was built with is empty.
    return {**given, "LD_LIBRARY_PATH": str(folder), "LD_PRELOAD": str(folder / "libcuda.so.1")}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("checks", ["runner", "faults", "nvdec"])
def test_on_the_emulated_driver(environment: dict[str, str], checks: str) -> None:
    if importlib.util.find_spec("cuda") is None:
        skip("no cuda.bindings")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-rs"]
    done = subprocess.run(
        [*command, HERE / "checks" / f"{checks}.py"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout, done.stdout
