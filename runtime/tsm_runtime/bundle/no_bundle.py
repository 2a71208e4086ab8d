"""What a path is that is no bundle, and how to get one from it."""

from __future__ import annotations

import shlex
from pathlib import Path

from tsm_runtime.bundle.manifest import MANIFEST
from tsm_runtime.files import is_folder

_CHECKPOINTS = ("best.safetensors", "last.safetensors")
_FOREIGN_WEIGHTS = (".pt", ".pth", ".ckpt", ".tar", ".pkl", ".bin")


def is_run(path: Path) -> bool:
    """Return whether a folder is one that `tsm-train` wrote."""
    return not (path / MANIFEST).exists() and _checkpoint_in(path) is not None


def explain_no_bundle(path: Path) -> str:
    """Return what a path is that `load_bundle` refuses, and the next step."""
    if is_folder(path):
        return f"is the folder of a run, not a bundle; {_export(_checkpoint_in(path) or path)}"
    if not path.exists():
        if path.suffix.lower() in (".safetensors", *_FOREIGN_WEIGHTS):
            return "no such file; a bundle is the folder that tsm-export writes from a checkpoint"
        return f"no such bundle folder; write one with: tsm-export CHECKPOINT -o {shlex.quote(str(path))}"
    folder = path.parent
    if (folder / MANIFEST).exists():
        return f"is a file of a bundle; give its folder: {shlex.quote(str(folder))}"
    if path.suffix.lower() == ".safetensors":
        return f"is a checkpoint, not a bundle; {_export(path)}"
    if (checkpoint := _checkpoint_in(folder)) is not None:
        return f"is a file of a run, not a bundle; {_export(checkpoint)}"
    if path.suffix.lower() in _FOREIGN_WEIGHTS:
        return (
            "holds weights of another program, not a bundle; train with them first"
            f" (tsm-train CONFIG --set model.pretrained={shlex.quote(str(path.resolve()))}), then tsm-export"
        )
    return "is a file, not a bundle folder; write one with: tsm-export CHECKPOINT -o bundle"


def _checkpoint_in(folder: Path) -> Path | None:
    return next((folder / name for name in _CHECKPOINTS if (folder / name).is_file()), None)


def _export(checkpoint: Path) -> str:
    return f"write one: tsm-export {shlex.quote(str(checkpoint))} -o bundle, and give that folder"
