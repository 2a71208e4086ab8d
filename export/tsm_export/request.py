"""The request of an export: precisions, targets, calibration and validation data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

from tsm_runtime.backends.tensorrt.build_options import BuildOptions
from tsm_runtime.errors import UsageError

Precision = Literal["fp32", "fp16", "int8"]
Target = Literal["onnx", "tensorrt", "tensorrt-rtx"]

DEFAULT_OPSET = 20
"""The opset that onnxruntime 1.17, TensorRT 10.0 and later versions read."""

_OPSETS = range(18, 24)
"""PyTorch writes from 18 on; TensorRT 11 and onnxruntime 1.31 read up to 23 at least."""

Name = TypeVar("Name", bound=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """Files that an export writes, and how.

    Args:
        precisions: of the models; fp32 ONNX, the truth for all others, is written in any case. Empty:
            fp32, and fp16 where its scores are close enough.
        targets: what must be written; empty: ONNX, and TensorRT plans where TensorRT and a GPU are there.
        half_weights: store the fp32 file's weights in half precision; the arithmetic stays fp32.
        build: of plans; its device is that of `devices`.
        devices: numbers of the GPUs whose kinds TensorRT builds plans for, at least one.
        calibrate: annotations, or a folder of videos, for int8; None: the checkpoint's training videos.
        validate: annotations of videos on which precisions are compared with fp32; None: no comparison.
        opset: version of ONNX's operators; an older one for an older inference library.
        frame_outputs: models of clips also give action scores and features of each frame.
        head: also export the temporal head beside the checkpoint, if there is one.

    Raises:
        UsageError: options exclude each other.
    """

    precisions: tuple[Precision, ...] = ()
    targets: tuple[Target, ...] = ()
    half_weights: bool = False
    build: BuildOptions = field(default_factory=BuildOptions)
    devices: tuple[int, ...] = (0,)
    calibrate: Path | None = None
    validate: Path | None = None
    opset: int = DEFAULT_OPSET
    frame_outputs: bool = True
    head: bool = True

    def __post_init__(self) -> None:
        if "int8" not in self.precisions and self.calibrate is not None:
            raise UsageError("--calibrate is for --engine int8; leave it out, or ask for int8")
        if self.opset not in _OPSETS:
            raise UsageError(
                f"--opset {self.opset}: expected {_OPSETS[0]} to {_OPSETS[-1]};"
                f" leave it out for {DEFAULT_OPSET}"
            )

    @property
    def tries_half(self) -> bool:
        """Whether fp16 is written by default, so that its failure costs its files alone."""
        return not self.precisions

    @property
    def half(self) -> bool:
        """Whether fp16 models are written."""
        return self.tries_half or "fp16" in self.precisions


def checked_precisions(names: Iterable[str]) -> tuple[Precision, ...]:
    """Return the precisions of some names, each once.

    Raises:
        UsageError: one is unknown.
    """
    return tuple(dict.fromkeys(_known("--engine", name, get_args(Precision)) for name in names))


def checked_targets(names: Iterable[str]) -> tuple[Target, ...]:
    """Return the targets of some names, each once; `all` stands for ONNX and TensorRT.

    Raises:
        UsageError: one is unknown.
    """
    targets: list[Target] = []
    for name in names:
        known = _known("--target", name, (*get_args(Target), "all"))
        targets += ["onnx", "tensorrt"] if known == "all" else [known]
    return tuple(dict.fromkeys(targets))


def _known(option: str, name: str, known: tuple[Name, ...]) -> Name:
    for candidate in known:
        if candidate == name:
            return candidate
    raise UsageError(f"{option} {name!r}: expected {', '.join(map(str, known))}")
