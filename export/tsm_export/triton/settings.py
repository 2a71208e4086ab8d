"""Settings of a served model: the requested ones, checked against the bundle."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.bundle.manifest import EngineInfo
from tsm_runtime.errors import BundleError, UsageError
from tsm_runtime.models.choice import open_model

Platform = Literal["onnxruntime", "tensorrt"]
Device = Literal["cpu", "gpu"]
Precision = Literal["fp32", "fp16", "int8"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_MAX_BATCH = 8
"""Of an ONNX file, which takes any number of clips; a plan says its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Options of the command as given; None where the bundle or another option decides.

    Raises:
        UsageError: a value is out of range.
    """

    name: str
    version: int = 1
    platform: Platform = "onnxruntime"
    device: Device | None = None
    precision: Precision | None = None
    max_batch: int | None = None
    preferred: tuple[int, ...] | None = None
    delay_microseconds: int = 2000
    instances: int = 1

    def __post_init__(self) -> None:
        check_name(self.name)
        least = {"version": 1, "max_batch": 1, "delay_microseconds": 0, "instances": 1}
        for name, minimum in least.items():
            value: int | None = getattr(self, name)
            if value is not None and value < minimum:
                raise UsageError(f"{name} {value}: expected {minimum} or more")
        if self.platform == "tensorrt" and self.device == "cpu":
            raise UsageError("--platform tensorrt runs on a GPU only; leave --device cpu out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One model file of a bundle and how Triton shall run it.

    Args:
        file: its name in the bundle.
        largest_batch: most clips that the file takes in one call; None: any number.
        max_batch: most clips that Triton puts together; at least 1.
        preferred: numbers of clips for which Triton does not wait any longer, rising, none above `max_batch`.
        notes: what the server must be for this file, one line each.
    """

    name: str
    version: int
    file: str
    platform: Platform
    device: Device
    precision: Precision
    largest_batch: int | None
    max_batch: int
    preferred: tuple[int, ...]
    delay_microseconds: int
    instances: int
    notes: tuple[str, ...] = ()


def check_name(name: str) -> None:
    """Check a name of a model, which is a folder's name and a part of URLs.

    Raises:
        UsageError: it has other characters than letters, digits and _ . -
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"model name {name!r}: expected up to 128 letters, digits and _ . -, the first a letter or digit;"
            " choose one with --name"
        )


def choose_settings(bundle: Bundle, request: Request) -> Settings:
    """Return the settings of a bundle's served model, after reading its file and loading an ONNX file.

    Raises:
        BundleError: the file is missing or altered, takes one number of clips only, or is a plan that Triton
            cannot run.
        UsageError: the batches do not fit the plan or each other.
        BackendError: onnxruntime is not installed, which checks ONNX files.
    """
    device = request.device or ("gpu" if request.platform == "tensorrt" else "cpu")
    precision = request.precision or ("fp16" if device == "gpu" else "fp32")
    file = f"model.{precision}.{'plan' if request.platform == 'tensorrt' else 'onnx'}"
    engine = _checked_engine(bundle, file)
    max_batch, preferred = _batches(request, engine)
    return Settings(
        name=request.name,
        version=request.version,
        file=file,
        platform=request.platform,
        device=device,
        precision=precision,
        largest_batch=engine.batch[2] if engine else None,
        max_batch=max_batch,
        preferred=preferred,
        delay_microseconds=request.delay_microseconds,
        instances=request.instances,
        notes=_notes(file, engine) if engine else (),
    )


def _checked_engine(bundle: Bundle, file: str) -> EngineInfo | None:
    """Check that Triton can run a file; return what built it, where it is a plan."""
    if file.endswith(".onnx"):
        # onnxruntime's backend compares inputs, outputs and the free first axis with the manifest.
        open_model(bundle, file, num_threads=1)
        return None
    bundle.model_bytes(file)
    engine = bundle.manifest.files[file].engine
    where = f"{bundle.path / file}"
    if engine is None:
        raise BundleError(
            f"{where}: the manifest does not say what built this plan; export it again with tsm-export"
        )
    if engine.library != "tensorrt":
        raise BundleError(
            f"{where}: a plan of TensorRT for RTX, which Triton does not run; export one with"
            " tsm-export --target tensorrt, or serve the ONNX file with --platform onnxruntime"
        )
    if engine.stripped:
        raise BundleError(
            f"{where}: a plan without weights, which Triton cannot fill in; export it without --stripped"
        )
    if engine.batch[0] > 1:
        raise BundleError(
            f"{where}: takes {engine.batch[0]} clips or more at a time, but Triton also passes single ones"
            f" on; export it with --batch 1,{engine.batch[1]},{engine.batch[2]}"
        )
    return engine


def _batches(request: Request, engine: EngineInfo | None) -> tuple[int, tuple[int, ...]]:
    """Return the largest batch and the preferred ones; a plan was built for some, an ONNX file takes all."""
    largest = engine.batch[2] if engine else None
    max_batch = request.max_batch or largest or _MAX_BATCH
    if largest is not None and max_batch > largest:
        raise UsageError(
            f"--max-batch {max_batch}: the plan was built for batches of up to {largest}; give that or less,"
            " or build it again with tsm-export --batch"
        )
    preferred = request.preferred
    if preferred is None:
        preferred = (min(engine.batch[1], max_batch),) if engine else ()
    for size in preferred:
        if not 1 <= size <= max_batch:
            raise UsageError(f"--batch {size}: expected 1 to {max_batch}, the largest batch (--max-batch)")
    return max_batch, tuple(sorted(set(preferred)))


def _notes(file: str, engine: EngineInfo) -> tuple[str, ...]:
    """Say which server can load a plan: elsewhere Triton refuses it."""
    capabilities = ", ".join(engine.compute_capabilities)
    where = " ".join(filter(None, (engine.gpu, f"({capabilities})" if capabilities else "")))
    notes = [f"{file}: for TensorRT {engine.version}{f' on {where}' if where else ''}"]
    if engine.version_compatible:
        notes.append("start the server with --backend-config=tensorrt,version-compatible=true")
    else:
        notes[0] += ": take the container of Triton that has this version"
    return tuple(notes)
