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


LAYERS = (
    "commands api __init__",
    "archive live verification",
    "outputs",
    "pipeline",
    "models captures",
    "backends fusion",
    "bundle",
    "evaluation segments",
    "formats clips",
    "audio",
    "video strict plain_table",
    "files terminal",
    "results errors machine wording signatures closing _version",
)
"""Folders and modules of the runtime's root, top first: each imports only from lines below its own."""
LEVELS = {name: level for level, line in enumerate(LAYERS) for name in line.split()}
RUNTIME = ROOT / "runtime/tsm_runtime"
PRINTING = {"runtime/tsm_runtime/terminal.py", "train/tsm_train/synthetic/__main__.py"}
"""Modules outside of commands/ that print: what the commands print with, and a program of its own."""


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


# --- the runtime's folders ------------------------------------------------------------------------


def modules_of(package: str) -> dict[str, Path]:
    """Path of each module of a package by its dotted name."""
    root = ROOT / package
    names = {
        path: ".".join((root.name, *path.relative_to(root).with_suffix("").parts))
        for path in sorted(root.rglob("*.py"))
    }
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


def imported_modules(path: Path, modules: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and name of each module that a module imports, also in functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if inner in modules else node.module


def test_folders_import_only_from_those_below() -> None:
    modules = modules_of("runtime/tsm_runtime")
    upward = []
    for path in modules.values():
        own = path.relative_to(RUNTIME).parts[0].removesuffix(".py")
        assert own in LEVELS, f"{own}: which line of LAYERS is it in?"
        for line, other in imported_modules(path, modules):
            there = other.split(".")[1] if "." in other else "__init__"
            below = LEVELS[there] > LEVELS[own] or (own, there) == ("__init__", "api")
            if there not in (own, "_version") and not below:
                upward.append(f"{path.relative_to(ROOT)}:{line}: {other}")
    assert upward == []


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_modules_import_each_other(package: str) -> None:
    modules = modules_of(package)
    edges = {name: {other for _, other in imported_modules(path, modules)} for name, path in modules.items()}
    while True:
        imported = set().union(*edges.values()) if edges else set()
        outside = [
            name for name, others in edges.items() if not others & edges.keys() or name not in imported
        ]
        if not outside:
            break
        for name in outside:
            del edges[name]
    assert edges == {}, "these import each other in a circle"


@pytest.mark.parametrize("package", FORBIDDEN)
def test_public_names_are_unique_in_their_package(package: str) -> None:
    homes: dict[str, list[Path]] = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(path)
    # Each command has its main, and backends side by side name alike what plays the same part.
    double = {
        name: [str(path.relative_to(ROOT)) for path in paths]
        for name, paths in homes.items()
        if len(paths) > 1 and not (name == "main" or all("backends" in path.parts for path in paths))
    }
    double.pop("run", None)  # `tsm_runtime.run` of a program is `pipeline.run` of an open model
    assert double == {}


def calls(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


@pytest.mark.parametrize("package", ["runtime/tsm_runtime", "export/tsm_export", "train/tsm_train"])
def test_only_commands_print_and_know_exit_codes(package: str) -> None:
    """Libraries log to "tsm_runtime", which a program that embeds them can route or silence."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        if "commands" in path.parts or str(path.relative_to(ROOT)) in PRINTING:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{line}: {name}"
            for line, name in calls(path)
            if name in ("print", "warn", "sys.exit", "exit") or name.startswith("typer.")
        ]
        found += [f"{path.relative_to(ROOT)}: typer" for name in imported_packages(path) if name == "typer"]
    assert found == []


@pytest.mark.parametrize("package", FORBIDDEN)
def test_only_the_runtime_itself_exports(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        if path == RUNTIME / "__init__.py":
            continue
        content = path.read_text()
        assert "\n__all__" not in content, path
        if path.name == "__init__.py":
            body = ast.parse(content).body
            assert all(isinstance(node, ast.Expr) for node in body), f"{path}: more than a docstring"


def test_completion_finds_what_the_runtime_exports() -> None:
    loaded = loaded_by("import tsm_runtime\nassert {'load', 'run', 'stream'} <= set(dir(tsm_runtime))")
    assert loaded == {"tsm_runtime"}
