"""Layers of an FP16 network that compute in float32, because the builder has no FP16 kernel for them.

TensorRT 11 may refuse grouped convolutions in half precision (NVIDIA/TensorRT#4838).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_REBUILDS = 4
"""Builds after the first one, of which each takes minutes."""

_NO_KERNEL = (
    r"Could not find any implementation for node (?P<node>.+?)(?:\.?\)|\. In |\.?$)",
    r"No low-precision \w+ kernel available.*?Failing node: (?P<node>\S+)",
)

_BETWEEN_NAMES = r" \+ | \|\| |\.\.\.|[{}\[\]]"


def failing_layers(errors: Iterable[str], names: Sequence[str]) -> list[str]:
    """Return the layers for which a builder reports that it has no kernel, in the network's order.

    >>> names = ["a", "b", "c", "d"]
    >>> failing_layers(["Error Code 10: (Could not find any implementation for node a + b. In x)"], names)
    ['a', 'b']
    >>> failing_layers(["Could not find any implementation for node {ForeignNode[a...c]}.)"], names)
    ['a', 'b', 'c']
    """
    found: set[str] = set()
    for match in (m for error in errors for pattern in _NO_KERNEL for m in re.finditer(pattern, error)):
        named = [name for name in re.split(_BETWEEN_NAMES, match["node"]) if name in names]
        found.update(named)
        if "..." in match["node"] and len(named) > 1:
            found.update(names[names.index(named[0]) : names.index(named[-1]) + 1])
    return [name for name in names if name in found]


def alike(failing: Sequence[str], groups: dict[str, int]) -> list[str]:
    """Return the failing layers, and all grouped convolutions if one of them is grouped.

    Args:
        failing: names of layers.
        groups: number of groups of each convolution, in the network's order.
    """
    if not any(groups.get(name, 1) > 1 for name in failing):
        return list(failing)
    return [*failing, *(name for name, number in groups.items() if number > 1 and name not in failing)]


def convolution_groups(trt: Any, network: Any) -> dict[str, int]:
    """Return the number of groups of each convolution of a network, by name."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    return {
        layer.name: _as_convolution(trt, layer).num_groups
        for layer in layers
        if layer.type == trt.LayerType.CONVOLUTION
    }


def compute_in_float(trt: Any, network: Any, names: Iterable[str]) -> tuple[list[str], list[Any]]:
    """Let layers of a strongly typed network compute in float32, between casts from and to half precision.

    Args:
        trt: the library's module.
        network: changed in place.
        names: of layers; those without half-precision inputs, or with weights that are tensors, are kept.

    Returns:
        The names of the changed layers, and arrays that have to live until the network is built.
    """
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    wanted = set(names)
    changed: list[str] = []
    weights: list[Any] = []
    for layer in layers:
        if layer.name in wanted and _is_half(trt, layer):
            if layer.type == trt.LayerType.CONVOLUTION:
                held = _widen_weights(_as_convolution(trt, layer))
                if not held:
                    continue
                weights += held
            _cast_around(trt, network, layer, layers)
            changed.append(layer.name)
    return changed, weights


def _is_half(trt: Any, layer: Any) -> bool:
    tensors = [layer.get_input(i) for i in range(layer.num_inputs)]
    return any(tensor is not None and tensor.dtype == trt.DataType.HALF for tensor in tensors)


def _as_convolution(trt: Any, layer: Any) -> Any:
    """Return a layer as the class that has weights: a network returns all layers as their base class."""
    convolution = layer
    convolution.__class__ = trt.IConvolutionLayer
    return convolution


def _widen_weights(convolution: Any) -> list[npt.NDArray[np.float32]]:
    """Set a convolution's weights in float32 and return them; none if they are tensors."""
    kernel = np.asarray(convolution.kernel)
    if not kernel.size:
        return []
    held = [kernel.astype(np.float32)]
    convolution.kernel = held[0]
    bias = np.asarray(convolution.bias)
    if bias.size:
        held.append(bias.astype(np.float32))
        convolution.bias = held[1]
    return held


def _cast_around(trt: Any, network: Any, layer: Any, layers: Sequence[Any]) -> None:
    """Cast the half-precision inputs of a layer to float32, and its outputs back for all that read them."""
    outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
    halves = {tensor.name for tensor in outputs if tensor.dtype == trt.DataType.HALF}
    for i in range(layer.num_inputs):
        tensor = layer.get_input(i)
        if tensor is not None and tensor.dtype == trt.DataType.HALF:
            layer.set_input(i, network.add_cast(tensor, trt.DataType.FLOAT).get_output(0))
    for output in outputs:
        if output.name in halves:
            _replace(layers, output.name, network.add_cast(output, trt.DataType.HALF).get_output(0))


def _replace(layers: Sequence[Any], name: str, tensor: Any) -> None:
    """Let all readers of a tensor read another one."""
    for layer in layers:
        for i in range(layer.num_inputs):
            read = layer.get_input(i)
            if read is not None and read.name == name:
                layer.set_input(i, tensor)
