"""Variants to compare: a model file of a bundle, and the engine that runs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tsm_runtime.backends.base import Backend
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.bundle.manifest import ModelFile
from tsm_runtime.models.choice import Engine, open_model

Choice = Literal["auto", "onnxruntime-cuda", "openvino"]
"""auto: TensorRT for plans, onnxruntime on the CPU for ONNX files."""

CHOICES: tuple[Choice, ...] = ("auto", "onnxruntime-cuda", "openvino")


@dataclass(frozen=True, slots=True)
class Variant:
    """A model file, and the engine that runs it.

    Args:
        file: its name in the bundle.
        engine: engine that runs it; None: the default for files of its kind.
        bf16: compute in bfloat16 instead of fp32.
    """

    file: str
    engine: Engine | None = None
    bf16: bool = False

    @property
    def label(self) -> str:
        """The file, and the engine if it is not the default.

        >>> Variant("model.fp32.onnx", "openvino", bf16=True).label
        'model.fp32.onnx on openvino in bf16'
        """
        on = f" on {self.engine}" if self.engine else ""
        return f"{self.file}{on}{' in bf16' if self.bf16 else ''}"

    def precision(self, entry: ModelFile) -> str:
        """Return the precision that determines the tolerance."""
        if entry.kind == "preprocess":
            return "pictures"
        return "bf16" if self.bf16 else entry.precision

    def open(self, bundle: Bundle, num_threads: int | None, device: int = 0) -> Backend:
        """Open the model, see `open_model`."""
        if self.engine is None:
            return open_model(bundle, self.file, num_threads=num_threads, device=device)
        return open_model(
            bundle, self.file, engine=self.engine, bf16=self.bf16, num_threads=num_threads, device=device
        )


def variants_of(file: str, entry: ModelFile, choices: Sequence[Choice]) -> Iterator[Variant]:
    """Yield the variants of a file; none if no choice suits files of its kind."""
    if "auto" in choices:
        yield Variant(file)
    if entry.engine is not None or entry.kind != "clips" or not file.endswith(".onnx"):
        return
    if "onnxruntime-cuda" in choices:
        yield Variant(file, "onnxruntime-cuda")
    if "openvino" in choices:
        yield Variant(file, "openvino")
        if entry.precision == "fp32":
            yield Variant(file, "openvino", bf16=True)
