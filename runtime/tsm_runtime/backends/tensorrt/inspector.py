"""Data types of the layers of a graph or plan, and the check that they match the requested precision."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tsm_runtime.backends.tensorrt.library import library_logger
from tsm_runtime.errors import CheckError

Precision = Literal["fp32", "fp16", "int8", "int8-trt"]

_MIN_SHARE = 0.1
"""Share of the heavy layers that must compute in that type. Graphs of this program have nearly all of
theirs in it, some may be left out for their error, and a builder that ignores the types leaves none."""

_REQUESTED: dict[Precision, str] = {"fp32": "Float", "fp16": "Half", "int8": "Int8", "int8-trt": "Int8"}
_REDUCED = {"Half", "BFloat16", "Int8", "FP8", "Int4", "FP4"}
_HEAVY = re.compile("conv|correlation|gemm|matmul|matrix_?multiply|fusion|myelin", re.IGNORECASE)
"""Kinds of layer that convolve or multiply matrices, alone or with their neighbours."""

# In the order of search: "UInt8" holds "Int8", and "BF16" stands apart from "FP16" by its first letter only.
_SPELLINGS = {
    "UInt8": "uint8",
    "Int8": "int8",
    "BFloat16": "bf16|bfloat16",
    "Half": "half|fp16|float16",
    "FP8": "fp8|float8|e4m3",
    "FP4": "fp4|float4",
    "Float": "float|fp32|float32",
    "Int4": "int4",
    "Int32": "int32",
    "Int64": "int64",
    "Bool": "bool",
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, of a graph before or of a plan after the library's work.

    Args:
        kind: its type in the library's words.
        inputs, outputs: data types that are known, in the spelling of TensorRT 11 ("Half", "Int8").
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def count_types(layers: Iterable[Layer]) -> dict[str, int]:
    """Return how many outputs of layers have which data type, the most frequent first."""
    return dict(Counter(name for layer in layers for name in layer.outputs).most_common())


def require_precision(layers: Sequence[Layer], precision: Precision, what: str) -> None:
    """Check that the heavy layers compute in the requested data type.

    A heavy layer computes in the type of its first input: a convolution of INT8 gives Float or Half.

    Args:
        layers: of a graph or a plan. Where none is known to be heavy, all their inputs and outputs count.
        precision: requested precision.
        what: what the layers are of, for the message.

    Raises:
        CheckError: the requested type is missing or rare, or a plan called fp32 has a smaller type.
    """
    heavy = [layer.inputs[0] for layer in layers if layer.inputs and _HEAVY.search(layer.kind)]
    types = heavy or [name for layer in layers for name in (*layer.inputs, *layer.outputs)]
    found, wanted = Counter(types), _REQUESTED[precision]
    too_small = precision == "fp32" and not _REDUCED.isdisjoint(found)
    if not types or too_small or found[wanted] < _MIN_SHARE * len(types):
        counts = ", ".join(f"{name} {number}" for name, number in found.most_common()) or "no type is known"
        raise CheckError(
            f"{what} is not {precision}: of {len(types)} {'heavy layers' if heavy else 'tensors'}"
            f" {found[wanted]} are {wanted} ({counts}); give the {precision} graph, whose own types decide"
        )


def network_layers(trt: Any, network: Any) -> list[Layer]:
    """Return the layers of a parsed graph; a quantised input counts as what it was before dequantisation."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    quantised = {
        layer.get_output(0).name: layer.get_input(0).dtype
        for layer in layers
        if layer.type == trt.LayerType.DEQUANTIZE
    }

    def types(tensors: Iterable[Any]) -> tuple[str, ...]:
        # An input that a layer may have and this one has not is None.
        return _known(quantised.get(t.name, t.dtype).name for t in tensors if t is not None)

    return [
        Layer(
            kind=layer.type.name,
            inputs=types(layer.get_input(i) for i in range(layer.num_inputs)),
            outputs=types(layer.get_output(i) for i in range(layer.num_outputs)),
        )
        for layer in layers
    ]


def inspect_plan(trt: Any, plan: bytes, *, host_code: bool) -> list[Layer] | None:
    """Load a plan that was just built here and return its layers; None: it does not load on this GPU.

    Args:
        trt: the library's module.
        plan: the plan.
        host_code: allow the code in the plan to run; version-compatible plans need that.
    """
    try:
        runtime = trt.Runtime(library_logger(trt))
    except TypeError:  # what the bindings make of a null pointer
        return None
    runtime.engine_host_code_allowed = host_code
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return None
    inspector = engine.create_engine_inspector()
    layers = inspected_layers(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    if not layers:
        # Some versions report a tensor's type only once its free axes have values.
        inspector.execution_context = _context_of_best_batch(trt, engine)
        layers = inspected_layers(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    return layers


def _context_of_best_batch(trt: Any, engine: Any) -> Any:
    """Return a context without device memory, for inspection only."""
    context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    for name in names if context is not None else ():
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            context.set_input_shape(name, engine.get_tensor_profile_shape(name, 0)[1])
    return context


def inspected_layers(text: str) -> list[Layer]:
    """Return the layers of an engine inspector's JSON; those without data types are left out.

    TensorRT 10 writes a tensor's type and layout as one text ("Format/Datatype"), 11 as two.
    """
    try:
        # Not strict: names of fused layers come with bare control characters between them.
        document = json.loads(text, strict=False)
    except ValueError:
        return []
    layers = document.get("Layers", []) if isinstance(document, dict) else []
    found = [
        Layer(
            kind=str(layer.get("LayerType", "")),
            inputs=_tensor_types(layer.get("Inputs")),
            outputs=_tensor_types(layer.get("Outputs")),
        )
        for layer in layers
        if isinstance(layer, dict)  # a bare name where the plan was built without details
    ]
    return [layer for layer in found if layer.inputs or layer.outputs]


def described_layers(text: str) -> list[Layer]:
    """Return the layers of the builder's own description of the engine it made, one per line of its log."""
    pattern = r"^Name: .*?, LayerType: (\w+), Inputs: (.*?), Constants: .*?, Outputs: (.*?), TacticName: "
    return [
        Layer(
            kind=match[1],
            inputs=_known(re.findall(r"Datatype: (\w+)", match[2])),
            outputs=_known(re.findall(r"Datatype: (\w+)", match[3])),
        )
        for match in re.finditer(pattern, text, re.MULTILINE)
    ]


def _tensor_types(tensors: object) -> tuple[str, ...]:
    if not isinstance(tensors, list):
        return ()
    return _known(
        str(value)
        for tensor in tensors
        if isinstance(tensor, dict)
        for key, value in tensor.items()
        if key.lower().endswith("datatype")
    )


def _known(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in map(_type_name, texts) if name)


def _type_name(text: str) -> str:
    """Find the data type in a text like "Channel major FP16 format where channel % 8 == 0".

    >>> _type_name("HALF"), _type_name("Row major linear UINT8"), _type_name("N/A due to dynamic shapes")
    ('Half', 'UInt8', '')
    """
    for name, spellings in _SPELLINGS.items():
        if re.search(rf"\b(?:{spellings})\b", text, re.IGNORECASE):
            return name
    return ""
