"""Builds pycuda without CUDA's toolkit and installs it into a folder, for tests on the emulated driver.

    python tests/emulated_gpu/build_pycuda.py FOLDER

Headers come from the package nvidia-cuda-runtime, which PyTorch installs. The driver's functions stay open:
the process that loads the modules has loaded the emulated driver. pycuda's own setup takes three times as
long: it compiles one file after another, and installs a build environment first.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy

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

_DEFINES = (
    "BOOST_ALL_NO_LIB=1",
    "BOOST_THREAD_BUILD_DLL=1",
    "BOOST_THREAD_DONT_USE_CHRONO=1",
    "BOOST_MULTI_INDEX_DISABLE_SERIALIZATION=1",
    "BOOST_PYTHON_SOURCE=1",
    "boost=pycudaboost",
    "PYGPU_PACKAGE=pycuda",
    "PYGPU_PYCUDA=1",
)
"""As pycuda's own setup has them."""

_FLAGS = ("-O0", "-g0", "-w", "-fPIC")
_BOOST = Path("bpl-subset/bpl_subset")
_DRIVER = ("cpp/cuda.cpp", "cpp/bitlog.cpp", "wrapper/wrap_cudadrv.cpp", "wrapper/mempool.cpp")


def main(folder: Path) -> None:
    """Build and install, with what pycuda needs to be imported."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        wanted = ["--no-deps", "--no-binary", "pycuda", "--no-build-isolation", f"pycuda=={VERSION}"]
        subprocess.run([*pip, "download", "--dest", root, *wanted], check=True)
        with tarfile.open(next(root.glob("pycuda-*.tar.gz"))) as archive:
            archive.extractall(root, filter="data")
        _build(root / f"pycuda-{VERSION}", root, folder)
    subprocess.run([*pip, "install", "--no-deps", "--target", folder, *_NEEDS], check=True)


def _build(tree: Path, root: Path, folder: Path) -> None:
    """Compile the two modules of an unpacked source into a folder, beside its Python files."""
    (root / "cudaProfiler.h").write_text(_PROFILER)
    (tree / _BOOST / "pycudaboost").symlink_to("boost")
    places = [tree / "src/cpp", tree / _BOOST, root, _cuda_headers(), numpy.get_include()]
    includes = [f"-I{place}" for place in (*places, sysconfig.get_path("include"))]
    command = ["g++", *_FLAGS, *(f"-D{name}" for name in _DEFINES), *includes]
    header = root / "boost_python.hpp"  # compiled once: nearly all of the others' time
    header.write_text("#include <boost/python.hpp>\n")
    subprocess.run([*command, "-x", "c++-header", header, "-o", f"{header}.gch"], check=True)
    boost = sorted((tree / _BOOST / "libs").glob("[!t]*/**/*.cpp"))
    boost += sorted((tree / _BOOST / "libs/thread/src/pthread").glob("*.cpp"))
    boost = [path for path in boost if path.name != "once_atomic.cpp"]
    modules = {
        "_driver": [*(tree / "src" / name for name in _DRIVER), *boost],
        "_pvt_struct": [tree / "src/wrapper/_pvt_struct_v3.cpp"],
    }
    shutil.copytree(tree / "pycuda", folder / "pycuda", dirs_exist_ok=True)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name, sources in modules.items():
            objects = [root / f"{number}{name}.o" for number, _ in enumerate(sources)]
            jobs = [
                pool.submit(_run, [*command, "-include", header, "-c", source, "-o", built])
                for source, built in zip(sources, objects, strict=True)
            ]
            for job in jobs:
                job.result()
            target = folder / "pycuda" / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
            _run(["g++", "-shared", "-pthread", "-o", target, *objects])


def _run(command: list[Any]) -> None:
    subprocess.run(command, check=True)


def _cuda_headers() -> Path:
    nvidia = importlib.util.find_spec("nvidia")
    for place in nvidia.submodule_search_locations or () if nvidia else ():
        for header in sorted(Path(place).glob("*/include/cuda.h")):
            return header.parent
    raise SystemExit("no cuda.h: pip install nvidia-cuda-runtime")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
