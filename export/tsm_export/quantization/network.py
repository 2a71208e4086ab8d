"""What is known of a graph that is to be quantised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tsm_export.graphs.index import GraphIndex
from tsm_export.quantization.layers import Layer
from tsm_export.quantization.recognise import Normalisation, Shift


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Facts of a graph that is to be quantised.

    Args:
        index: the fp32 graph.
        layers: all that can be quantised, in the graph's order.
        shifts: temporal shifts, by the tensor that they make.
        pixels: the tensor of normalised pixels, and the normalisation; None where it was not recognised.
    """

    index: GraphIndex
    layers: tuple[Layer, ...]
    shifts: Mapping[str, Shift]
    pixels: tuple[str, Normalisation] | None
