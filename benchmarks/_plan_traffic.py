"""Bytes that the layers of a plan read and write, from the builder's own description, and their budgets.

Weights do not count: they are read once a batch. A tensor that a layer reads in several places counts once.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tsm_runtime.backends.tensorrt.build import build_plan
from tsm_runtime.backends.tensorrt.build_options import BuildOptions
from tsm_runtime.backends.tensorrt.inspector import Precision

_LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: (?P<inputs>.*?), Constants: .*?,"
    r" Outputs: (?P<outputs>.*?), TacticName: ",
    re.MULTILINE,
)
_TENSOR = re.compile(r"Name: (?P<name>\S+), Dimensions: \[(?P<sizes>[\d,]*)\].*?Datatype: (?P<type>\w+)")
_BYTES = {"Bool": 1, "UInt8": 1, "Int8": 1, "Half": 2, "BFloat16": 2, "Float": 4, "Int32": 4, "Int64": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Most that graphs of a backbone may move and hold, times another graph of it.

    Args:
        shift: MB of FP16, times FP16 without shift.
        shift_layers: the same of the number of layers.
        int8: MB of INT8, times FP16.
        int8_layers: the same of the number of layers.
    """

    shift: float
    shift_layers: float
    int8: float
    int8_layers: float


_GROUPED = Budget(shift=1.16, shift_layers=1.18, int8=1.25, int8_layers=1.7)
_DEPTHWISE = Budget(shift=1.05, shift_layers=1.2, int8=2.25, int8_layers=1.65)
BUDGETS: Mapping[str, Budget] = {
    "resnext101_32x8d": _GROUPED,
    "resnext101_64x4d": _GROUPED,
    "mobilenet_v2": _DEPTHWISE,
    "efficientnet_lite0": _DEPTHWISE,
    "resnet50": Budget(shift=1.42, shift_layers=1.3, int8=0.97, int8_layers=1.47),
}
"""TensorRT for RTX 1.7: the shift is a layer of its own, which reads and writes all channels; a convolution
of INT8 gives FP16, which another layer makes 8 bits of; and a depthwise one takes four times the channels."""


@dataclass(frozen=True, slots=True)
class LayerTraffic:
    """What a layer moves.

    Args:
        name, kind: in the library's words.
        read, written: bytes of its distinct inputs and of its outputs.
        output_types: data types of the outputs.
    """

    name: str
    kind: str
    read: int
    written: int
    output_types: tuple[str, ...]


def layer_traffic(description: str) -> list[LayerTraffic]:
    """Return the layers of a plan for one batch size that read or write anything.

    Args:
        description: `BuiltPlan.description`.

    Raises:
        ValueError: it describes no layer, or sizes that are not fixed.
    """
    found = [_layer(match) for match in _LAYER.finditer(description)]
    moving = [layer for layer in found if layer.read or layer.written]
    if not moving:
        raise ValueError(f"no layer of fixed sizes in a description of {len(description)} characters")
    return moving


def _layer(match: re.Match[str]) -> LayerTraffic:
    inputs, outputs = (_tensors(match[part]) for part in ("inputs", "outputs"))
    return LayerTraffic(
        name=match["name"],
        kind=match["kind"],
        read=sum(size for _, _, size in set(inputs)),
        written=sum(size for _, _, size in outputs),
        output_types=tuple(kind for _, kind, _ in outputs),
    )


def _tensors(text: str) -> list[tuple[str, str, int]]:
    if "[-1" in text or ",-1" in text:
        raise ValueError(f"sizes that are not fixed: {text[:200]}")
    return [
        (match["name"], match["type"], _BYTES[match["type"]] * math.prod(map(int, match["sizes"].split(","))))
        for match in _TENSOR.finditer(text)
    ]


def clip_traffic(graph: bytes, precision: Precision) -> dict[str, Any]:
    """Build a plan for batches of one clip with TensorRT for RTX; return what it moves.

    Returns:
        Number of layers by kind, MB that they read and write, and MB written by data type.
    """
    options = BuildOptions(batch=(1, 1, 1))
    built = build_plan(graph, options, library="tensorrt_rtx", precision=precision)
    return summary(layer_traffic(built.description))


def summary(layers: Sequence[LayerTraffic]) -> dict[str, Any]:
    """Return the sums over layers, as they are stored."""
    written: Counter[str] = Counter()
    for layer in layers:
        written.update(dict.fromkeys(layer.output_types[:1], layer.written))
    return {
        "layers": len(layers),
        "layer_kinds": dict(Counter(layer.kind for layer in layers).most_common()),
        "read_mb": _megabytes(sum(layer.read for layer in layers)),
        "written_mb": _megabytes(sum(layer.written for layer in layers)),
        "written_mb_by_type": {name: _megabytes(size) for name, size in written.most_common()},
        "moved_mb": _megabytes(sum(layer.read + layer.written for layer in layers)),
    }


def _megabytes(size: int) -> float:
    return round(size / 1e6, 3)


def compare(moved: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return how much the graphs of a backbone move and hold, as in `Budget`.

    Args:
        moved: `clip_traffic` of "fp16", "fp16 without shift" and "int8-trt".
    """
    half, still, int8 = (moved[name] for name in ("fp16", "fp16 without shift", "int8-trt"))
    return {
        "shift": round(half["moved_mb"] / still["moved_mb"], 3),
        "shift_layers": round(half["layers"] / still["layers"], 3),
        "int8": round(int8["moved_mb"] / half["moved_mb"], 3),
        "int8_layers": round(int8["layers"] / half["layers"], 3),
    }


def over_budget(backbone: str, ratios: Mapping[str, float]) -> list[str]:
    """Return a line for each ratio above the backbone's budget."""
    budget = BUDGETS[backbone]
    return [
        f"{backbone}: {name} is {ratio:g} times, the budget is {getattr(budget, name):g}"
        for name, ratio in ratios.items()
        if ratio > getattr(budget, name)
    ]
