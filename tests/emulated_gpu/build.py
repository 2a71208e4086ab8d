"""Builds the emulated libraries: libcuda.so.1, with a kernel for tests in it, and libnvcuvid.so.1.

    python tests/emulated_gpu/build.py FOLDER

What else pycuda and FFmpeg look up in them is a function that answers "not supported". Needs g++.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_HERE = Path(__file__).parent
_FLAGS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread")
_NOT_SUPPORTED = 801
"""CUDA_ERROR_NOT_SUPPORTED of cuda.h."""


def build(folder: Path) -> Path:
    """Build both libraries into a folder, which is made, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    binaries = [*_libraries_of("av"), *_libraries_of("pycuda")]
    driver = [_HERE / "driver.cpp", _HERE / "kernel.cpp"]
    _compile(folder / "libcuda.so.1", driver, _names(binaries, rb"cu[A-Z]\w+"), [])
    names = _names(binaries, rb"cuvid[A-Z]\w+")
    _compile(folder / "libnvcuvid.so.1", [_HERE / "nvdec.cpp"], names, ["-L", folder, "-l:libcuda.so.1"])
    return folder


def _libraries_of(package: str) -> list[Path]:
    """Shared objects of an installed package, and those that its wheel carries beside it."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return []
    root = Path(found.origin).parent
    inside = [*root.rglob("*.so"), *root.with_name(f"{package}.libs").glob("*.so*")]
    return inside if package == "av" else [*inside, *root.parent.glob(f"{package}*/*.so")]


def _names(binaries: Iterable[Path], pattern: bytes) -> set[str]:
    """Names that some binaries link, or look up: those stand as strings in them."""
    looked_up = re.compile(rb"(?<=\0)" + pattern + rb"(?=\0)")
    linked = re.compile(rb" U (" + pattern + rb")\n")
    found: set[bytes] = set()
    for path in binaries:
        symbols = subprocess.run(["nm", "-D", "--undefined-only", path], capture_output=True).stdout
        found.update(looked_up.findall(path.read_bytes()), linked.findall(symbols))
    return {name.decode() for name in found}


def _compile(library: Path, sources: list[Path], names: set[str], more: list[Path | str]) -> None:
    own = "\n".join(source.read_text() for source in sources)
    missing = sorted(name for name in names if not re.search(rf"\b{name}\(", own))
    others = library.with_suffix(".others.cpp")
    others.write_text(
        "\n".join(f'extern "C" int {name}() {{ return {_NOT_SUPPORTED}; }}' for name in missing) + "\n"
    )
    command = ["g++", *_FLAGS, f"-Wl,-soname,{library.name}", "-o", library, *sources, others, *more]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
