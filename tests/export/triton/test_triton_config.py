"""What `tsm-triton` writes, parsed back with Triton's own protobuf definition."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bundle import tiny_model, write_tiny_bundle
from tritonclient.grpc import model_config_pb2

from tsm_export.triton.model_config import PARAMETER, config_text, differences, read_served
from tsm_export.triton.repository import write_model
from tsm_export.triton.settings import Request, choose_settings
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.manifest import FORMAT_VERSION, EngineInfo
from tsm_runtime.errors import BundleError, TsmError, UsageError

PLAN = b"a plan, which only a GPU could read"


def bundle_with(folder: Path, files: dict[str, tuple[str, dict[str, Any] | None]]) -> Bundle:
    """The tiny bundle with more files: name to precision and, for a plan, what built it."""
    write_tiny_bundle(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["format_version"] = FORMAT_VERSION
    graph = (folder / "model.fp32.onnx").read_bytes()
    for name, (precision, engine) in files.items():
        data = PLAN if name.endswith(".plan") else graph
        (folder / name).write_bytes(data)
        entry = {"sha256": hashlib.sha256(data).hexdigest(), "precision": precision}
        manifest["files"][name] = entry | ({"engine": engine} if engine else {})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return load_bundle(folder)


def engine(**changes: Any) -> dict[str, Any]:
    built = {
        "library": "tensorrt",
        "version": "10.16.1.11",
        "gpu": "NVIDIA H100 80GB HBM3",
        "compute_capabilities": ["9.0"],
        "batch": [1, 8, 32],
        "onnx_sha256": "0" * 64,
    }
    return built | changes


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(write_tiny_bundle(tmp_path / "bundle"))


@pytest.fixture
def plan_bundle(tmp_path: Path) -> Bundle:
    return bundle_with(tmp_path / "bundle", {"model.fp16.plan": ("fp16", engine())})


def written(bundle: Bundle, repository: Path, **request: Any) -> tuple[Path, Any]:
    """Write the model; return its folder and its configuration as Triton reads it."""
    request_ = Request(name="tiny", **request)
    write_model(bundle, repository, choose_settings(bundle, request_))
    folder = repository / "tiny"
    return folder, text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def described(tensor: Any) -> tuple[str, str, list[int]]:
    return tensor.name, model_config_pb2.DataType.Name(tensor.data_type), list(tensor.dims)


def warmups(config: Any) -> list[int]:
    for one in config.model_warmup:
        assert list(one.inputs) == ["frames"]
        assert one.inputs["frames"].zero_data
        assert described(config.input[0])[1:] == (
            model_config_pb2.DataType.Name(one.inputs["frames"].data_type),
            list(one.inputs["frames"].dims),
        )
    return [one.batch_size for one in config.model_warmup]


# --- the configuration ----------------------------------------------------------------------------


def test_every_field_of_an_onnx_model_on_the_cpu(bundle: Bundle, tmp_path: Path) -> None:
    folder, config = written(bundle, tmp_path / "models", preferred=(8, 2, 2), max_batch=16, instances=3)
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    frames = [manifest["num_frames"], manifest["size"], manifest["size"], 3]
    assert (config.name, config.platform, config.max_batch_size) == ("tiny", "onnxruntime_onnx", 16)
    assert [described(one) for one in config.input] == [("frames", "TYPE_UINT8", frames)]
    assert [described(one) for one in config.output] == [
        ("action_scores", "TYPE_FP32", [len(manifest["action_labels"])]),
        ("scene_scores", "TYPE_FP32", [len(manifest["scene_labels"])]),
    ]
    assert list(config.dynamic_batching.preferred_batch_size) == [2, 8]
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    (group,) = config.instance_group
    assert (group.kind, group.count) == (model_config_pb2.ModelInstanceGroup.KIND_CPU, 3)
    assert warmups(config) == [1]
    assert not config.response_cache.enable
    assert not config.HasField("optimization")
    assert list(config.parameters) == [PARAMETER]
    assert (folder / "1" / "model.onnx").read_bytes() == (bundle.path / "model.fp32.onnx").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == [
        "1", "action_scores.txt", "config.pbtxt", "scene_scores.txt", "tsm-triton.json"
    ]  # fmt: skip


def test_label_files_are_in_the_order_of_the_scores(tmp_path: Path) -> None:
    actions = ["œuvre", "two\nlines", "a, b", "background"]
    graph = tiny_model()
    for output, size in zip(graph.graph.output, (4, 2), strict=True):
        output.type.tensor_type.shape.dim[1].dim_value = size
    centres = next(one for one in graph.graph.initializer if one.name == "action_centres")
    values = onnx.numpy_helper.to_array(centres)
    centres.CopyFrom(onnx.numpy_helper.from_array(values[:, [0, 1, 2, 2]], "action_centres"))
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle", graph, action_labels=actions))
    folder, config = written(bundle, tmp_path / "models")
    files = {output.name: folder / output.label_filename for output in config.output}
    assert files["action_scores"].read_text("utf-8") == "œuvre\ntwo\\nlines\na, b\nbackground\n"
    assert files["scene_scores"].read_text("utf-8") == "night\nday\n"
    served = read_served(config.parameters[PARAMETER].string_value)
    assert list(served.manifest.action_labels) == actions


def test_a_model_without_a_scene_head(tmp_path: Path) -> None:
    graph = tiny_model()
    del graph.graph.output[1]
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle", graph, scene_labels=[]))
    folder, config = written(bundle, tmp_path / "models")
    assert [output.name for output in config.output] == ["action_scores"]
    assert [path.name for path in folder.glob("*.txt")] == ["action_scores.txt"]


@pytest.mark.parametrize(
    ("platform", "name"), [("onnxruntime", "model.int8.onnx"), ("tensorrt", "model.int8.plan")]
)
def test_the_file_of_a_precision(tmp_path: Path, platform: Any, name: str) -> None:
    built = engine() if platform == "tensorrt" else None
    others = {
        "model.int8-trt.onnx": ("int8-trt", None),
        "model.int8.rtx.plan": ("int8", engine(library="tensorrt_rtx")),
    }
    bundle = bundle_with(tmp_path / "bundle", {**others, name: ("int8", built)})
    chosen = choose_settings(bundle, Request(name="tiny", platform=platform, precision="int8"))
    assert chosen.file == name


def test_half_precision_on_a_gpu_by_default(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path / "bundle", {"model.fp16.onnx": ("fp16", None)})
    _, config = written(bundle, tmp_path / "models", device="gpu", preferred=(4,))
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    served = read_served(config.parameters[PARAMETER].string_value)
    assert list(served.manifest.files) == ["model.fp16.onnx"]
    assert warmups(config) == [1, 4, 8]
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, dict(accelerator.parameters)) == ("cuda", {"prefer_nhwc": "1"})
    assert config.parameters["cudnn_conv_algo_search"].string_value == "1"
    _, plain = written(bundle, tmp_path / "models", device="gpu", precision="fp32")
    assert not plain.HasField("optimization")


def test_single_clips_are_not_held_back(bundle: Bundle, tmp_path: Path) -> None:
    _, config = written(bundle, tmp_path / "models", max_batch=1)
    assert config.max_batch_size == 1
    assert not config.HasField("dynamic_batching")


def test_the_parameter_holds_all_that_a_client_needs(bundle: Bundle, tmp_path: Path) -> None:
    _, config = written(bundle, tmp_path / "models")
    served = read_served(config.parameters[PARAMETER].string_value)
    assert served.bundle_sha256 == bundle.manifest_sha256
    assert differences(served.manifest, bundle.manifest) == []
    assert msgspec.structs.replace(served.manifest, files=bundle.manifest.files) == bundle.manifest
    assert served.manifest.files["model.fp32.onnx"].sha256 == (
        hashlib.sha256((bundle.path / "model.fp32.onnx").read_bytes()).hexdigest()
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda served: "{", "not as this version"),
        (lambda served: json.dumps({**served, "more": 1}), "unknown field `more`"),
        (
            lambda served: json.dumps({**served, "manifest": {**served["manifest"], "format_version": 99}}),
            "update",
        ),
        (
            lambda served: json.dumps({**served, "manifest": {**served["manifest"], "num_frames": 0}}),
            "positive",
        ),
    ],
)
def test_a_parameter_that_cannot_be_read(bundle: Bundle, change: Any, words: str) -> None:
    config = config_text(bundle, choose_settings(bundle, Request(name="tiny")))
    parsed = text_format.Parse(config, model_config_pb2.ModelConfig())
    with pytest.raises(ValueError, match=words):
        read_served(change(json.loads(parsed.parameters[PARAMETER].string_value)))


# --- plans ----------------------------------------------------------------------------------------


def test_every_field_of_a_plan(plan_bundle: Bundle, tmp_path: Path) -> None:
    folder, config = written(plan_bundle, tmp_path / "models", platform="tensorrt")
    assert (config.platform, config.max_batch_size) == ("tensorrt_plan", 32)
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    assert warmups(config) == [1, 8, 32]
    assert list(config.parameters) == [PARAMETER]
    assert not config.HasField("optimization")
    assert (folder / "1" / "model.plan").read_bytes() == PLAN
    assert not (folder / "1" / "model.onnx").exists()


def test_a_plan_names_the_server_it_is_for(plan_bundle: Bundle, tmp_path: Path) -> None:
    request_ = Request(name="tiny", platform="tensorrt")
    (line,) = choose_settings(plan_bundle, request_).notes
    assert line.startswith("model.fp16.plan: for TensorRT 10.16.1.11 on NVIDIA H100 80GB HBM3 (9.0): take")
    lasting = bundle_with(
        tmp_path / "lasting",
        {"model.fp16.plan": ("fp16", engine(version_compatible=True, gpu="", compute_capabilities=[]))},
    )
    assert choose_settings(lasting, request_).notes == (
        "model.fp16.plan: for TensorRT 10.16.1.11",
        "start the server with --backend-config=tensorrt,version-compatible=true",
    )


def test_a_smaller_batch_than_the_plans(plan_bundle: Bundle) -> None:
    chosen = choose_settings(plan_bundle, Request(name="tiny", platform="tensorrt", max_batch=4))
    assert (chosen.max_batch, chosen.preferred, chosen.largest_batch) == (4, (4,), 32)


@pytest.mark.parametrize(
    ("built", "kind", "words"),
    [
        (engine(library="tensorrt_rtx"), BundleError, "TensorRT for RTX, which Triton does not run"),
        (engine(stripped=True), BundleError, "without weights"),
        (engine(batch=[2, 8, 32]), BundleError, "--batch 1,8,32"),
        (None, BundleError, "does not say what built"),
    ],
)
def test_plans_that_triton_cannot_run(
    tmp_path: Path, built: dict[str, Any] | None, kind: type[TsmError], words: str
) -> None:
    bundle = bundle_with(tmp_path / "bundle", {"model.fp16.plan": ("fp16", built)})
    with pytest.raises(kind, match=words):
        choose_settings(bundle, Request(name="tiny", platform="tensorrt"))


def test_a_plan_whose_hash_differs_is_not_served(plan_bundle: Bundle, tmp_path: Path) -> None:
    (plan_bundle.path / "model.fp16.plan").write_bytes(PLAN + b".")
    with pytest.raises(BundleError, match="SHA-256 differs"):
        written(plan_bundle, tmp_path / "models", platform="tensorrt")
    assert not (tmp_path / "models").exists()


# --- batches --------------------------------------------------------------------------------------


@given(
    best=st.integers(1, 40),
    extra=st.integers(0, 40),
    max_batch=st.none() | st.integers(1, 90),
    preferred=st.none() | st.lists(st.integers(-1, 90), max_size=4).map(tuple),
)
@settings(max_examples=100)
def test_batches_fit_the_plan_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory,
    best: int,
    extra: int,
    max_batch: int | None,
    preferred: tuple[int, ...] | None,
) -> None:
    folder = tmp_path_factory.getbasetemp() / "profiles"
    bundle = (
        load_bundle(folder)
        if folder.exists()
        else bundle_with(folder, {"model.fp16.plan": ("fp16", engine())})
    )
    info = msgspec.convert(engine(batch=[1, best, best + extra]), EngineInfo)
    entry = msgspec.structs.replace(bundle.manifest.files["model.fp16.plan"], engine=info)
    manifest = msgspec.structs.replace(bundle.manifest, files={"model.fp16.plan": entry})
    request_ = Request(name="tiny", platform="tensorrt", max_batch=max_batch, preferred=preferred)
    most = max_batch or best + extra
    if most > best + extra or any(not 1 <= size <= most for size in preferred or ()):
        with pytest.raises(UsageError):
            choose_settings(msgspec.structs.replace(bundle, manifest=manifest), request_)
        return
    chosen = choose_settings(msgspec.structs.replace(bundle, manifest=manifest), request_)
    assert chosen.max_batch == most
    assert set(chosen.preferred) == ({min(best, most)} if preferred is None else set(preferred))
    assert list(chosen.preferred) == sorted(set(chosen.preferred))


def test_an_onnx_file_with_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    graph = tiny_model()
    for tensor in (*graph.graph.input, *graph.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 1
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle", graph))
    with pytest.raises(BundleError, match="one number of clips only"):
        choose_settings(bundle, Request(name="tiny"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"version": 0}, "version 0: expected 1 or more"),
        ({"instances": 0}, "instances 0"),
        ({"delay_microseconds": -1}, "delay_microseconds -1: expected 0 or more"),
        ({"platform": "tensorrt", "device": "cpu"}, "on a GPU only"),
        ({"name": "a/b"}, "model name 'a/b'"),
    ],
)
def test_requests_out_of_range(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Request(**{"name": "tiny", **values})
