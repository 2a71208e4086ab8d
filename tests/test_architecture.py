"""docs/architecture.md names the folders and modules that are there."""

from __future__ import annotations

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
