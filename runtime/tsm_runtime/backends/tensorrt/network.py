"""ONNX bytes to a network of TensorRT, and the batch sizes that its plan is to take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from tsm_runtime.backends.tensorrt.build_options import BuildOptions, Shape
from tsm_runtime.backends.tensorrt.library import Heard, library_logger, parser_words
from tsm_runtime.errors import BackendError, UsageError

NO_FOLDER = f"{os.devnull}/model.onnx"
"""Given to parsers as the graph's path, so that weights outside its file are not found: no hash covers them.
Given no path, the parser would take them from the working directory."""


def new_builder(trt: Any, heard: Heard) -> Any:
    """Return a library's Builder.

    Raises:
        BackendError: it does not start.
    """
    try:
        return trt.Builder(library_logger(trt))
    except TypeError as error:  # what the bindings make of a null pointer
        raise heard.error("does not start") from error


def parse_network(trt: Any, builder: Any, onnx: bytes, heard: Heard) -> tuple[Any, Any]:
    """Return the strongly typed network of an ONNX file, and its parser: the weights live in the latter.

    Raises:
        BackendError: the parser refuses the graph, or finds none. For bytes that are no ONNX file it says
            yes without an error.
    """
    # Needed up to 10.x; from 11 on every network is strongly typed and the flag may go.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, library_logger(trt))
    if not parser.parse(onnx, NO_FOLDER) or parser.num_errors:
        # Why weights cannot be read stands in the log only.
        reasons = [line for line in heard.errors if line.startswith("WeightsContext")]
        reasons.append(parser_words(parser))
        raise heard.error("does not take the graph", "; ".join(filter(None, reasons)))
    if not network.num_inputs or not network.num_outputs:
        raise heard.error(
            "does not take the graph", f"the {len(onnx)} bytes hold none; is this an ONNX file?"
        )
    return network, parser


SINGLE = (1, 1, 1)
SINGLE_PROFILE = 1
"""Number of the profile for exactly one clip, in a plan that has it."""


def optimization_profiles(builder: Any, network: Any, options: BuildOptions) -> list[Any]:
    """Return the profile with the number of clips as first axis of every input, or with the requested shapes.

    A second one is for exactly one clip, see `BuildOptions.has_single`.

    Args:
        builder: of the network.
        network: its inputs determine all other axes.
        options: least, best and most clips, and the shapes of inputs without clips.

    Raises:
        BackendError: another axis is free, or a shape is not one of that input.
        UsageError: the first axis is not, and the number of clips is more than its value.
    """
    batches = [options.batch, SINGLE] if options.has_single else [options.batch]
    return [_profile(builder, network, options, batch) for batch in batches]


def _profile(builder: Any, network: Any, options: BuildOptions, batch: tuple[int, int, int]) -> Any:
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        shape = tuple(tensor.shape)
        if tensor.name in options.shapes:
            profile.set_shape(tensor.name, *_fitting(tensor.name, shape, options.shapes[tensor.name]))
        elif not options.shapes:
            profile.set_shape(tensor.name, *_of_batches(tensor.name, shape, batch))
    return profile


def _fitting(name: str, shape: Shape, wanted: tuple[Shape, Shape, Shape]) -> tuple[Shape, Shape, Shape]:
    if any(
        len(one) != len(shape) or any(a not in (-1, b) for a, b in zip(shape, one, strict=True))
        for one in wanted
    ):
        raise BackendError(
            f"input {name!r} has shape {shape}, which is not {wanted[0]} to {wanted[2]}; export it again with"
            " tsm-export"
        )
    return wanted


def _of_batches(name: str, shape: Shape, batch: tuple[int, int, int]) -> Iterator[Shape]:
    if -1 in shape[1:]:
        raise BackendError(f"input {name!r} has shape {shape}: only its first axis may be free")
    if shape[:1] != (-1,) and set(batch) != set(shape[:1]):
        raise UsageError(
            f"input {name!r} of shape {shape} cannot take batches {batch}; export it again with a free first"
            " axis"
        )
    return ((number, *shape[1:]) for number in batch)
