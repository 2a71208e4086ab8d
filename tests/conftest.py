"""Fixtures of all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the small data sets beside the repository (TSM_SHARED_DATA names another place)."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TSM_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; TSM_SHARED_DATA names another folder")
    return folder
