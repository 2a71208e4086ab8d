"""Files of trained models: safetensors whose metadata name their format and hold what else is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import safetensors
import safetensors.torch
from torch import Tensor

from tsm_runtime.errors import UsageError
from tsm_runtime.files import write_whole


def write_tensors(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_whole(path, safetensors.torch.save(own, dict(metadata)))


def read_tensors(path: Path, format_: str, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return weights and metadata of a file.

    Args:
        path: the file.
        format_: that its metadata must name.
        what: name of its kind in messages.

    Raises:
        UsageError: missing, not safetensors, or of another format.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            metadata = dict(stream.metadata() or {})
            weights = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except OSError as error:
        raise UsageError(f"{path}: no readable {what} ({error.strerror or error})") from error
    except safetensors.SafetensorError as error:
        raise UsageError(f"{path}: not a safetensors checkpoint ({error})") from error
    if metadata.get("format") != format_:
        raise UsageError(
            f"{path}: not a {what} of tsm-train (expected format {format_!r}, got {metadata.get('format')!r})"
        )
    return weights, metadata


@dataclass(frozen=True, slots=True)
class FieldsFile:
    """Files whose metadata are fields of a checkpoint, as JSON.

    Args:
        format: that the files name.
        what: name of their kind in messages.
        fields: their types by name.
    """

    format: str
    what: str
    fields: Mapping[str, Any]

    def write(self, path: Path, checkpoint: Any) -> None:
        """Write a checkpoint, which has the fields and `weights`, whole or not at all.

        Raises:
            RunError: it cannot be written.
        """
        fields = {name: msgspec.json.encode(getattr(checkpoint, name)).decode() for name in self.fields}
        write_tensors(path, checkpoint.weights, {"format": self.format, **fields})

    def read(self, path: Path) -> dict[str, Any]:
        """Return `weights` and the fields.

        Raises:
            UsageError: missing, of another format, or damaged.
        """
        weights, metadata = read_tensors(path, self.format, self.what)
        try:
            values = {
                name: msgspec.json.decode(metadata[name], type=kind) for name, kind in self.fields.items()
            }
        except (KeyError, ValueError, msgspec.MsgspecError) as error:
            raise UsageError(f"{path}: damaged metadata of the {self.what} ({error})") from error
        return {"weights": weights, **values}
