"""Triton's model configuration: written as protobuf text, and read from a running server."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from tsm_export.triton.settings import Platform, Settings
from tsm_runtime._version import __version__
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.bundle.manifest import FORMAT_VERSION, Manifest, ModelFile
from tsm_runtime.errors import BackendError
from tsm_runtime.terminal import printable

PARAMETER = "tsm_tal"
"""Key of the configuration's parameter that holds what a client needs beside the scores."""

_PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan"}


class Served(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The description of a served model for its clients: labels, clips, and the bundle of origin."""

    manifest: Manifest
    """That of the bundle, with the served file only and without reports."""
    bundle_sha256: str
    platform: Platform
    largest_batch: int | None = None
    """Most clips that the file takes in one call; None: any number."""


def triton_client() -> Any:
    """Return the module `tritonclient.grpc`, which also carries Triton's protobuf definitions.

    Raises:
        BackendError: it is not installed.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its errors reach us as exceptions
    try:
        import tritonclient.grpc
    except (ImportError, RuntimeError) as error:  # RuntimeError: tritonclient without its extra `grpc`
        raise BackendError(
            "tritonclient with gRPC is not installed: pip install 'tsm-tal[triton]'"
        ) from error
    return tritonclient.grpc


def served(bundle: Bundle, settings: Settings) -> Served:
    """Return the description of a served model for its clients."""
    entry = bundle.manifest.files[settings.file]
    manifest = msgspec.structs.replace(
        bundle.manifest,
        files={settings.file: ModelFile(sha256=entry.sha256, precision=entry.precision)},
        verifications=(),
    )
    return Served(
        manifest=manifest,
        bundle_sha256=bundle.manifest_sha256,
        platform=settings.platform,
        largest_batch=settings.largest_batch,
    )


def differences(manifest: Manifest, other: Manifest) -> list[str]:
    """Return the names of the fields in which two models differ for a client."""
    alike = ("action_labels", "scene_labels", "head", "thresholds", "clip_spec", "resize")
    return [what for what in alike if getattr(manifest, what) != getattr(other, what)]


def head_labels(manifest: Manifest) -> dict[str, tuple[str, ...]]:
    """Return the labels of each output, in the order of its scores."""
    heads = {"action_scores": manifest.action_labels, "scene_scores": manifest.scene_labels}
    return {name: labels for name, labels in heads.items() if labels}


def label_file(output: str) -> str:
    """Return the name of an output's file of labels."""
    return f"{output}.txt"


def signature(manifest: Manifest) -> dict[str, tuple[str, list[int]]]:
    """Return data type and dimensions, without the batch's, of input and outputs, as Triton names them."""
    frames = list(manifest.clip_spec.clip_shape)
    outputs = {name: ("TYPE_FP32", [len(labels)]) for name, labels in head_labels(manifest).items()}
    return {"frames": ("TYPE_UINT8", frames), **outputs}


def config_text(bundle: Bundle, settings: Settings) -> str:
    """Return the text of `config.pbtxt`, made with Triton's own definition of it.

    Raises:
        BackendError: tritonclient is not installed.
    """
    definitions = triton_client().model_config_pb2
    from google.protobuf import json_format, text_format  # type: ignore[import-untyped]

    config = json_format.ParseDict(_document(bundle, settings), definitions.ModelConfig())
    text = text_format.MessageToString(config, as_utf8=True, use_short_repeated_primitives=True)
    source = printable(f"{bundle.path.resolve().name}/{settings.file}")
    return f"# Written by tsm-triton (tsm-tal {__version__}) from {source}.\n{text}"


def _document(bundle: Bundle, settings: Settings) -> dict[str, Any]:
    (frames, (frames_type, frames_dims)), *outputs = signature(bundle.manifest).items()
    document = {
        "name": settings.name,
        "platform": _PLATFORMS[settings.platform],
        "max_batch_size": settings.max_batch,
        "input": [{"name": frames, "data_type": frames_type, "dims": frames_dims}],
        "output": [
            {"name": name, "data_type": kind, "dims": dims, "label_filename": label_file(name)}
            for name, (kind, dims) in outputs
        ],
        "instance_group": [{"kind": f"KIND_{settings.device.upper()}", "count": settings.instances}],
        "model_warmup": [
            {
                "name": f"batch of {size}",
                "batch_size": size,
                "inputs": {frames: {"data_type": frames_type, "dims": frames_dims, "zero_data": True}},
            }
            for size in _warmup_sizes(settings)
        ],
        "parameters": _parameters(bundle, settings),
    }
    return document | _batching(settings) | _acceleration(settings)


def _batching(settings: Settings) -> dict[str, Any]:
    if settings.max_batch == 1:
        return {}  # a clip would only wait
    batching = {
        "preferred_batch_size": settings.preferred,
        "max_queue_delay_microseconds": settings.delay_microseconds,
    }
    return {"dynamic_batching": batching}


def _acceleration(settings: Settings) -> dict[str, Any]:
    if not (settings.platform == "onnxruntime" and settings.device == "gpu" and settings.precision == "fp16"):
        return {}
    # 12 and 26 % more clips per second in half precision (onnxruntime's CUDA provider on an H100, batches of
    # 8 and 32, shift by slices).
    cuda = {"name": "cuda", "parameters": {"prefer_nhwc": "1"}}
    return {"optimization": {"execution_accelerators": {"gpu_execution_accelerator": [cuda]}}}


def _warmup_sizes(settings: Settings) -> list[int]:
    """Return the batches run before the model counts as ready, so that no first request waits for set-up.

    On a CPU set-up does not depend on the batch, and a large one takes long.
    """
    sizes = {1} if settings.device == "cpu" else {1, *settings.preferred, settings.max_batch}
    return sorted(sizes)


def _parameters(bundle: Bundle, settings: Settings) -> dict[str, dict[str, str]]:
    values = {PARAMETER: msgspec.json.encode(served(bundle, settings)).decode()}
    if settings.device == "gpu" and settings.platform == "onnxruntime":
        # HEURISTIC. Triton's default tries all of cuDNN's algorithms at the first batch of every size, and on
        # an H100 the batches after it were no faster for that.
        values["cudnn_conv_algo_search"] = "1"
    return {key: {"string_value": value} for key, value in values.items()}


def read_served(text: str) -> Served:
    """Read the description that `tsm-triton` wrote into a configuration's parameter.

    Raises:
        ValueError: it is not of this kind, or of a newer one.
    """
    try:
        found = msgspec.json.decode(text, type=Served)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not as this version of tsm-tal writes it ({error})") from error
    if found.manifest.format_version > FORMAT_VERSION:
        raise ValueError(
            f"format {found.manifest.format_version} is newer than this program's; update tsm-tal"
        )
    _ = found.manifest.clip_spec, found.manifest.segment_rules  # raise ValueError themselves
    return found
