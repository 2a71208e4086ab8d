"""The direction of imports by the code, and what the lean runtime loads in fresh interpreters."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from media import counted, write_video

import tsm_runtime

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    "torch",
    "torchvision",
    "lightning",
    "timm",
    "onnx",
    "onnxscript",
    "safetensors",
    "tsm_train",
    "tsm_export",
    "tsm_serve",
}
HELP_MAY_LOAD = {"tsm_runtime", "typer", "click", "shellingham", "typing_extensions", "annotated_doc"}
FORBIDDEN = {
    "runtime/tsm_runtime": HEAVY,
    "serve/tsm_serve": HEAVY - {"tsm_serve"},
    "train/tsm_train": {"tsm_serve", "tsm_export", "onnx", "onnxscript", "onnxruntime"},
    "export/tsm_export": {"tsm_serve"},
}


def imported_packages(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_keep_their_direction(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    found = {f"{path.relative_to(ROOT)}: {name}" for path in files for name in imported_packages(path)}
    assert [entry for entry in sorted(found) if entry.rsplit(": ")[1] in FORBIDDEN[package]] == []


def loaded_by(program: str, *arguments: str) -> set[str]:
    """Top-level packages outside the standard library that a fresh interpreter has loaded at the end."""
    report = (
        "\nimport sys\n"
        "print('LOADED', *{name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program + report, *arguments], capture_output=True, text=True, check=True
    )
    names = set(done.stdout.splitlines()[-1].split()[1:])
    return {name for name in names if not name.startswith("_")}


RUN = """
import sys
sys.argv[0] = "tsm-run"
from tsm_runtime.commands.run import main
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
"""


def test_help_loads_next_to_nothing() -> None:
    loaded = loaded_by(RUN, "--help")
    assert "tsm_runtime" in loaded
    assert loaded <= HELP_MAY_LOAD


def test_every_module_of_the_runtime_is_lean() -> None:
    modules = [info.name for info in pkgutil.walk_packages(tsm_runtime.__path__, "tsm_runtime.")]
    assert "tsm_runtime.backends.onnxruntime" in modules
    loaded = loaded_by("".join(f"import {name}\n" for name in modules))
    assert loaded & HEAVY == set()
    assert "onnxruntime" not in loaded
    assert "rich" not in loaded


def test_running_on_a_video_is_lean(tiny_bundle: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", counted(30))
    output = tmp_path / "out.json"
    loaded = loaded_by(RUN, str(video), "--model", str(tiny_bundle), "--output", str(output))
    assert output.exists()
    assert {"numpy", "av", "onnxruntime"} <= loaded
    assert loaded & HEAVY == set()
    assert "rich" not in loaded


@pytest.mark.parametrize("package", FORBIDDEN)
def test_only_the_runtime_itself_exports(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        if path != ROOT / "runtime/tsm_runtime/__init__.py":
            assert "\n__all__" not in path.read_text(), path
