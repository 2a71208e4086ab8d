"""INT8 with explicit quantisation: ranges from real clips, layers left in fp32 where clips show the need."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsm_export.graphs.index import GraphIndex
from tsm_export.graphs.session import Clips, tensors_of_clips
from tsm_export.quantization.layers import Layer, find_blocks, find_layers
from tsm_export.quantization.network import Network
from tsm_export.quantization.qdq_graph import stored_tensors, write_quantized
from tsm_export.quantization.ranges import (
    RANGE_RULES,
    Extremes,
    Grid,
    RangeRule,
    Target,
    grid_of,
    observe_extremes,
)
from tsm_export.quantization.recognise import Normalisation, Shift, recognise_normalisation, recognise_shift
from tsm_export.quantization.sensitivity import leave_out

MAX_NOISE = 0.05
"""Noise of the logits, see `relative_noise`, above which layers are left out.

With efficientnet_lite0 on UT-Interaction, 0.033 on clips of the training videos came with the same top-1 on
98.7 % of the clips of other videos, and 0.085 (weights of 7 bits) with 94.4 %.
"""

_HELD_OUT = 5
"""Every fifth clip is kept from calibration, and measures what quantisation changes."""

_TRIAL_CLIPS = 8
"""Held-out clips that rank the blocks of a network."""

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedModel:
    """A quantised ONNX file and how it came about.

    Args:
        data: the ONNX file.
        target: see `ranges.Target`.
        left_out: names of the layers that stay in fp32.
        range_rule: see `ranges.RangeRule`; the one that changed held-out clips least.
        noise: of the logits on held-out clips, see `relative_noise`.
        noise_before: the same before layers were left out.
        num_clips: clips that the ranges are from.
        num_held_out: clips that measured `noise`.
        num_trials: quantised graphs that were measured.
    """

    data: bytes
    target: Target
    left_out: tuple[str, ...]
    range_rule: RangeRule
    noise: float
    noise_before: float
    num_clips: int
    num_held_out: int
    num_trials: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Activations of a network on real clips; valid for all targets.

    Args:
        network: the fp32 graph.
        extremes: of activations, over the calibration clips.
        held_out: clips that were kept from calibration.
        logits: (N, labels) of the fp32 network for them, for each head.
        num_clips: calibration clips.
    """

    network: Network
    extremes: Mapping[str, Extremes]
    held_out: Clips
    logits: Sequence[Logits]
    num_clips: int


def calibrate(data: bytes, clips: Clips, *, num_threads: int | None = None) -> Calibration:
    """Run clips through an fp32 network and record the extremes of its activations.

    Takes one pass over the clips, one clip at a time.

    Args:
        data: an ONNX file as `onnx_export.export_fp32` writes it, batch normalisation folded.
        clips: (M, T, size, size, 3) uint8 of the user's data, M at least 2; every fifth is held out.
        num_threads: of onnxruntime; default: all cores.

    Raises:
        ValueError: fewer than two clips.
    """
    if len(clips) < 2:
        raise ValueError(f"expected two clips or more, one of them held out, got {len(clips)}")
    index = GraphIndex(data)
    layers = tuple(find_layers(index))
    network = Network(
        index=index, layers=layers, shifts=_shifts(index, layers), pixels=_pixels(index, layers)
    )
    names = sorted(stored_tensors(index, layers, "cpu") | stored_tensors(index, layers, "trt"))
    held_out = np.arange(len(clips)) % _HELD_OUT == min(_HELD_OUT, len(clips)) - 1
    return Calibration(
        network=network,
        extremes=observe_extremes(index, names, clips[~held_out], num_threads),
        held_out=clips[held_out],
        logits=tensors_of_clips(data, index.logits, clips[held_out], num_threads),
        num_clips=int((~held_out).sum()),
    )


def quantize(
    calibration: Calibration,
    *,
    target: Target,
    max_noise: float = MAX_NOISE,
    num_threads: int | None = None,
) -> QuantizedModel:
    """Return the network with explicit quantisation (QuantizeLinear, DequantizeLinear), for one target.

    Weights are int8 with a scale per output channel. Pooling, heads and softmax stay in fp32, and so does
    the normalisation where the pixels themselves are not its grid. Layers that stay out are fp32 for the CPU
    and FP16 for TensorRT. Which blocks stay out is found by
    measuring on held-out clips: each block alone first, then the most sensitive ones together, until the
    network says nearly what it says in fp32. The same input gives the same bytes.

    Where nothing needs to stay out, this runs the held-out clips twice; else once more for each block left
    out, and eight clips for each block there is (16 to 33).

    Args:
        calibration: of the fp32 network.
        target: see `ranges.Target`.
        max_noise: see `relative_noise`; infinite: no layer is left out.
        num_threads: of onnxruntime; default: all cores.
    """
    variants = _Variants(calibration, target, num_threads)
    before = {rule: variants.noise(rule, frozenset()) for rule in RANGE_RULES}
    rule = min(RANGE_RULES, key=before.__getitem__)
    blocks = range(len(variants.blocks))
    found = leave_out(
        blocks,
        lambda out: variants.noise(rule, out),
        max_noise,
        trial_error=lambda out: variants.noise(rule, out, _TRIAL_CLIPS),
    )
    return QuantizedModel(
        data=variants.write(rule, found.blocks),
        target=target,
        left_out=tuple(layer.name for number in found.blocks for layer in variants.blocks[number]),
        range_rule=rule,
        noise=found.error,
        noise_before=before[rule],
        num_clips=calibration.num_clips,
        num_held_out=len(calibration.held_out),
        num_trials=variants.num_measured,
    )


def relative_noise(expected: Sequence[Logits], got: Sequence[Logits]) -> float:
    """Return how large the differences of logits are, relative to the logits; of the worst head.

    Root mean square over clips and labels of both, after each clip's mean over labels is taken out, which
    softmax does not see. Unlike differences of probabilities this does not vanish where a network is sure,
    as it is on the clips it was trained on.

    Args:
        expected: (N, labels) for each head.
        got: the same of the other network.
    """
    return max(_noise(a, b) for a, b in zip(expected, got, strict=True))


def _noise(expected: Logits, got: Logits) -> float:
    a, b = (each - each.mean(axis=1, keepdims=True, dtype=np.float64) for each in (expected, got))
    size, noise = (np.sqrt(np.square(each).mean()) for each in (a, a - b))
    return float(noise / max(size, np.finfo(np.float32).tiny))


class _Variants:
    """Quantised variants of a network, and their noise."""

    def __init__(self, calibration: Calibration, target: Target, num_threads: int | None) -> None:
        self.calibration = calibration
        self.target: Target = target
        self.num_threads = num_threads
        network = calibration.network
        self.blocks = find_blocks(network.index, network.layers)
        self.num_measured = 0
        self._noise: dict[tuple[RangeRule, frozenset[int], int], float] = {}

    def write(self, rule: RangeRule, left_out: Collection[int]) -> bytes:
        """Return the graph with some blocks left out."""
        network, extremes = self.calibration.network, self.calibration.extremes

        def grid(name: str) -> Grid:
            return grid_of(*extremes[_range_owner(network.index, name)].limits(rule), self.target)

        layers = [
            layer for number, block in enumerate(self.blocks) if number not in left_out for layer in block
        ]
        return write_quantized(network, layers, grid, self.target)

    def noise(self, rule: RangeRule, left_out: frozenset[int], num_clips: int | None = None) -> float:
        """Return the noise on held-out clips when just these blocks are left out."""
        calibration = self.calibration
        number = min(num_clips or len(calibration.held_out), len(calibration.held_out))
        key = rule, left_out, number
        if key not in self._noise:
            names = calibration.network.index.logits
            clips = calibration.held_out[:number]
            got = tensors_of_clips(self.write(rule, left_out), names, clips, self.num_threads)
            self._noise[key] = relative_noise([each[:number] for each in calibration.logits], got)
            self.num_measured += 1
        return self._noise[key]


def _range_owner(index: GraphIndex, name: str) -> str:
    """Return the tensor whose range one has: the largest of a neighbourhood lies on the same grid."""
    node = index.producers.get(name)
    while node is not None and node.op_type == "MaxPool":
        name = index.source(node.input[0])
        node = index.producers.get(name)
    return name


def _shifts(index: GraphIndex, layers: Collection[Layer]) -> dict[str, Shift]:
    moved = sorted({name for layer in layers for name in layer.inputs if index.source(name) != name})
    found = {name: recognise_shift(index, index.source(name), name) for name in moved}
    return {name: shift for name, shift in found.items() if shift is not None}


def _pixels(index: GraphIndex, layers: Collection[Layer]) -> tuple[str, Normalisation] | None:
    """Return what the first convolution reads, if that is nothing but normalised pixels."""
    first = next((layer.inputs[0] for layer in layers), None)
    found = None if first is None else recognise_normalisation(index, first)
    return None if first is None or found is None else (first, found)
