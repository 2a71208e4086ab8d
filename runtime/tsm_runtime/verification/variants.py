"""Variants to compare: a model file of a bundle, and the engine that runs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
        device: number of the GPU, where several are verified; None: there is only one.
    """

    file: str
    engine: Engine | None = None
    bf16: bool = False
    device: int | None = None

    @property
    def label(self) -> str:
        """The file, and the engine if it is not the default.

        >>> Variant("model.fp32.onnx", "openvino", bf16=True).label
        'model.fp32.onnx on openvino in bf16'
        """
        on = f" on {self.engine}" if self.engine else ""
        gpu = "" if self.device is None else f" on GPU {self.device}"
        return f"{self.file}{on}{' in bf16' if self.bf16 else ''}{gpu}"

    def precision(self, entry: ModelFile) -> str:
        """Return the precision that determines the tolerance."""
        if entry.kind == "preprocess":
            return "pictures"
        return "bf16" if self.bf16 else entry.precision

    def open(self, bundle: Bundle, num_threads: int | None, device: int = 0) -> Backend:
        """Open the model, see `open_model`; `device` is that of a variant without a GPU of its own."""
        device = device if self.device is None else self.device
        if self.engine is None:
            return open_model(bundle, self.file, num_threads=num_threads, device=device)
        return open_model(
            bundle, self.file, engine=self.engine, bf16=self.bf16, num_threads=num_threads, device=device
        )


def variants_of(
    file: str, entry: ModelFile, choices: Sequence[Choice], devices: Sequence[int] = (0,)
) -> Iterator[Variant]:
    """Yield the variants of a file; none if no choice suits files of its kind.

    Args:
        file: its name in the bundle.
        entry: of the manifest.
        choices: engines that run the files.
        devices: numbers of the GPUs: with several, a variant that runs on a GPU is yielded for each.
    """
    for variant in _engines_of(file, entry, choices):
        on_gpu = variant.engine == "onnxruntime-cuda" or (entry.engine is not None and entry.kind == "clips")
        if on_gpu and len(devices) > 1:
            yield from (replace(variant, device=device) for device in devices)
        else:
            yield variant


def _engines_of(file: str, entry: ModelFile, choices: Sequence[Choice]) -> Iterator[Variant]:
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
