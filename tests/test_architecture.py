"""docs/architecture.md names the folders and modules that are there, and imports the names that are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = sorted(path.parent for path in ROOT.glob("*/tsm_*/__init__.py"))


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title}"
    return found[1]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_the_table_of_folders_is_the_tree(package: Path) -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", section(package.name), re.MULTILINE))
    there = {path.name for path in package.iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert named == there


def test_every_module_on_the_five_ways_is_there() -> None:
    modules = re.findall(r"`(\w+/\w+(?:/\w+)*)`", section("Five ways through the code"))
    assert len(modules) > 30
    files = {str(path.relative_to(package))[:-3] for package in PACKAGES for path in package.rglob("*.py")}
    assert [name for name in modules if name not in files] == []


def names_of(module: Path) -> set[str]:
    """Return what a module offers: its own names, imported ones included, and the modules beside it."""
    names = {path.stem for path in module.parent.iterdir()} if module.stem == "__init__" else set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Constant) and module.parent.name == "tsm_runtime":
            names.add(str(node.value))  # __all__ of names that are imported on demand
    return names


def test_names_that_are_imported_exist() -> None:
    """Also in programs that no test runs, such as benchmarks."""
    modules = {
        ".".join((package.name, *path.relative_to(package).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for package in PACKAGES
        for path in package.rglob("*.py")
    }
    offered = {name: names_of(path) for name, path in modules.items()}
    wrong = []
    for folder in (*PACKAGES, ROOT / "benchmarks", ROOT / "examples", ROOT / "tests"):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tsm_"):
                    missing = {alias.name for alias in node.names} - offered.get(node.module or "", set())
                    wrong += [f"{path.relative_to(ROOT)}:{node.lineno}: {name}" for name in missing]
    assert wrong == []
