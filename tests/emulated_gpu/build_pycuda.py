"""Builds pycuda without CUDA's toolkit and installs it into a folder, for tests on the emulated driver.

    python tests/emulated_gpu/build_pycuda.py FOLDER

Headers come from the package nvidia-cuda-runtime, which PyTorch installs; pycuda links a library without
functions, and finds an nvcc that does nothing. Its random numbers, which need the compiler, are left out.
Takes one to two minutes.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "2026.1"
_NEEDS = ("pytools", "Mako", "MarkupSafe", "siphash24", "platformdirs", "typing_extensions")

_PROFILER = """
#include <cuda.h>
typedef enum CUoutput_mode_enum { CU_OUT_KEY_VALUE_PAIR = 0, CU_OUT_CSV = 1 } CUoutput_mode;
extern "C" CUresult cuProfilerInitialize(const char *, const char *, CUoutput_mode);
extern "C" CUresult cuProfilerStart();
extern "C" CUresult cuProfilerStop();
"""
"""cudaProfiler.h, which no package has."""

_SETTINGS = """
CUDA_ROOT = {root!r}
CUDA_INC_DIR = {includes!r}
CUDADRV_LIB_DIR = [{root!r}]
CUDART_LIB_DIR = [{root!r}]
CUDA_ENABLE_CURAND = False
CXXFLAGS = ["-O0", "-w"]
"""


def main(folder: Path) -> None:
    """Build and install, with what pycuda needs to be imported."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        source = f"pycuda=={VERSION}"
        subprocess.run(
            [*pip, "download", "--no-deps", "--no-binary", "pycuda", "--dest", root, source], check=True
        )
        with tarfile.open(next(root.glob("pycuda-*.tar.gz"))) as archive:
            archive.extractall(root, filter="data")
        environment = _toolkit(root)
        tree = root / f"pycuda-{VERSION}"
        includes = [str(root), str(_cuda_headers())]
        (tree / "siteconf.py").write_text(_SETTINGS.format(root=scratch, includes=includes))
        command = [*pip, "install", "--no-deps", "--target", folder, tree, *_NEEDS]
        subprocess.run(command, check=True, env=environment)


def _toolkit(root: Path) -> dict[str, str]:
    """Make what stands in the toolkit's place, and return the environment that finds it."""
    (root / "cudaProfiler.h").write_text(_PROFILER)
    nvcc = root / "nvcc"
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    (root / "empty.c").touch()
    library = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", root / "libcuda.so"]
    subprocess.run(["gcc", *library, root / "empty.c"], check=True)
    return {**os.environ, "PATH": f"{root}{os.pathsep}{os.environ['PATH']}"}


def _cuda_headers() -> Path:
    nvidia = importlib.util.find_spec("nvidia")
    for place in nvidia.submodule_search_locations or () if nvidia else ():
        for header in sorted(Path(place).glob("*/include/cuda.h")):
            return header.parent
    raise SystemExit("no cuda.h: pip install nvidia-cuda-runtime")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
