"""Whether the inputs and outputs of an ONNX file are those that its bundle's manifest tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tsm_runtime.bundle.bundle import Manifest
from tsm_runtime.errors import BundleError

__all__ = ["check_tensors"]


def check_tensors(
    tensors: Mapping[str, tuple[str, Sequence[int | str | None]]], manifest: Manifest, what: str
) -> None:
    """Check names, element types and shapes.

    Args:
        tensors: name of an input or output to its type, "uint8" or "float", and its shape, whose first axis
            is no number where it is free.
        manifest: what they have to be.
        what: the file, for the message.

    Raises:
        BundleError: they are others, or the number of clips is not free.
    """
    expected = {
        "frames": ("uint8", [manifest.num_frames, manifest.size, manifest.size, 3]),
        "action_scores": ("float", [len(manifest.action_labels)]),
    }
    if manifest.scene_labels:
        expected["scene_scores"] = ("float", [len(manifest.scene_labels)])
    got = {name: (kind, list(shape[1:])) for name, (kind, shape) in tensors.items()}
    if got != expected:
        raise BundleError(f"{what} does not fit the manifest: expected {expected}, got {got}")
    if any(isinstance(shape[0], int) for _, shape in tensors.values()):
        raise BundleError(f"{what} takes one number of clips only; export it again with a free first axis")
