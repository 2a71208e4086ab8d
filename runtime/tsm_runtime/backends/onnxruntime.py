"""ONNX files on the CPU through onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tsm_runtime.backends.base import BlockingBackend, Scores, one_line, output_shapes, run_failure
from tsm_runtime.backends.onnxruntime_module import NO_VNNI, import_onnxruntime, integer_instructions
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.bundle.manifest import Manifest
from tsm_runtime.errors import BundleError
from tsm_runtime.machine import give_back_freed_memory, num_cores

_NO_FOLDER = f"{os.devnull}/"
"""Where weights outside the model file are looked for: a place that holds none, as no hash covers them."""


FITS_16_BITS = "tsm-tal.sums-fit-16-bits"
"""Metadata of an INT8 file: no two neighbouring products of it saturate on a processor without VNNI."""


class OnnxruntimeBackend(BlockingBackend):
    """A session over one ONNX model of a bundle.

    Args:
        bundle: bundle of the model and its labels.
        name: which of the bundle's models, `model.fp32.onnx` for one.
        num_threads: threads of the convolutions; default: all cores that this process may use.
        parallel_calls: calls at a time that share these threads. With one, all threads wait at the end of
            every layer for the one whose core decoding has taken; with two, the other call goes on.

    Raises:
        BackendError: onnxruntime is not installed.
        BundleError: the model is missing, altered, not loadable, or does not fit the manifest.
    """

    def __init__(
        self,
        bundle: Bundle,
        name: str = "model.fp32.onnx",
        *,
        num_threads: int | None = None,
        parallel_calls: int = 1,
    ) -> None:
        num_threads = num_threads or num_cores()
        self.parallel_calls = min(parallel_calls, num_threads)
        threads_of_a_call = -(-num_threads // self.parallel_calls)  # rounded up
        self._session = open_session(bundle, name, num_threads=threads_of_a_call)
        check_session(self._session, bundle.manifest, f"{bundle.path}: {name}")
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.name = describe_session(bundle, name)

    def infer(self, frames: npt.NDArray[np.uint8]) -> Scores:
        """Score a (N, T, size, size, 3) uint8 batch.

        Raises:
            RunError: onnxruntime failed, for example without memory.
        """
        try:
            outputs = self._session.run(None, {"frames": frames})
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            raise run_failure(self.name, len(frames), error) from error
        values = dict(zip(self._outputs, outputs, strict=True))
        return Scores.of(values)


def open_session(bundle: Bundle, name: str, *, num_threads: int | None = None) -> Any:
    """Open an ONNX file of a bundle on the CPU; arguments and errors as of `OnnxruntimeBackend`."""
    ort = import_onnxruntime()
    model = bundle.model_bytes(name)
    options = session_options(ort, num_threads or num_cores())
    try:
        session = _cpu_session(ort, model, options)
        if bundle.manifest.files[name].precision == "int8" and _may_saturate(session):
            # Slower; see `FITS_16_BITS`.
            options.add_session_config_entry("session.x64quantprecision", "1")
            session = _cpu_session(ort, model, options)
    except Exception as error:  # as above
        raise BundleError(
            f"{bundle.path}: {name} does not load in onnxruntime {ort.__version__}: {one_line(error)}"
        ) from error
    # It keeps the file for a second try with other providers, which there are none of here.
    if hasattr(session, "_model_bytes"):
        session._model_bytes = None
    del model
    give_back_freed_memory()  # more than the file: onnxruntime reorders weights. resnet50: 220 of 650 MiB
    return session


def _cpu_session(ort: Any, model: bytes, options: Any) -> Any:
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _may_saturate(session: Any) -> bool:
    """Whether this processor may compute wrong sums of an INT8 file, which an older version exported."""
    stated = session.get_modelmeta().custom_metadata_map
    return FITS_16_BITS not in stated and integer_instructions() == NO_VNNI


def describe_session(bundle: Bundle, name: str) -> str:
    """Return library, device and precision of a model file; for INT8 also the instructions."""
    precision = bundle.manifest.files[name].precision
    instructions = f", {integer_instructions()}" if precision == "int8" else ""
    return f"onnxruntime {import_onnxruntime().__version__} CPU, {precision}{instructions}"


def session_options(ort: Any, num_threads: int) -> Any:
    """Return what all sessions have in common."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait take the cores from decoding, which runs at the same time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
    options.log_severity_level = 4  # its errors reach us as exceptions
    return options


def check_session(session: Any, manifest: Manifest, what: str) -> None:
    """Check a session's inputs and outputs, as `check_tensors`."""
    nodes = [*session.get_inputs(), *session.get_outputs()]
    tensors = {node.name: (node.type.removeprefix("tensor(")[:-1], node.shape) for node in nodes}
    check_tensors(tensors, manifest, what)


def check_tensors(
    tensors: Mapping[str, tuple[str, Sequence[int | str | None]]], manifest: Manifest, what: str
) -> None:
    """Check names, element types and shapes.

    Args:
        tensors: name of an input or output to its type, "uint8" or "float", and its shape, whose first axis
            is no number where it is free.
        manifest: expected names, types and shapes.
        what: the file, for the message.

    Raises:
        BundleError: they differ, or the number of clips is not free.
    """
    frames = list(manifest.clip_spec.clip_shape)
    outputs = {name: ("float", list(shape)) for name, shape in output_shapes(manifest).items()}
    expected = {"frames": ("uint8", frames), **outputs}
    got = {name: (kind, list(shape[1:])) for name, (kind, shape) in tensors.items()}
    if got != expected:
        raise BundleError(f"{what} does not fit the manifest: expected {expected}, got {got}")
    if any(isinstance(shape[0], int) for _, shape in tensors.values()):
        raise BundleError(f"{what} takes one number of clips only; export it again with a free first axis")
