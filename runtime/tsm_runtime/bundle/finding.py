"""Search for the bundle: the given folder, the environment, ./bundle, the embedded demo."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from tsm_runtime.files import is_folder


def demo_folder() -> Path:
    """Return the folder of the embedded demo: bundle/, video.mp4 and ground_truth.json."""
    return Path(str(files("tsm_runtime"))) / "demo"


def find_bundle(given: Path | None) -> tuple[Path, str | None]:
    """Return the bundle to use and, where it is the embedded demo model, a line that says so.

    The order is: the given one, $TSM_MODEL, ./bundle, the demo model.
    """
    if given is not None:
        return given, None
    if named := os.environ.get("TSM_MODEL"):
        return Path(named), None
    if is_folder(Path("bundle")):
        return Path("bundle"), None
    return demo_folder() / "bundle", (
        "no model given: using the embedded demo model, which knows drawn figures only"
        " (--model BUNDLE for yours)"
    )
