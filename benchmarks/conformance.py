"""Whether NVIDIA's own parser and builder take the graph of every backbone in every precision.

Exports each network (random weights) in FP32, FP16 and symmetric INT8, and builds a plan of each, and of
preprocess.onnx, with TensorRT for RTX, which needs no GPU. A row holds the parser messages, how many layers
it made of the graph, how many outputs of the finished engine's layers have which data type (`evidence`: where
that is read), and what the build took. Ends with an error where a graph is refused, or a plan does not
compute in its precision: the runtime checks that after every build. Nothing is run, and the time of a build
says nothing of the plan's speed.

`traffic`: plans for batches of one clip, and the MB of activations that their layers read and write, FP16
with and without shift and INT8. Ends with an error where a ratio is above its budget.

    python benchmarks/conformance.py
    python benchmarks/conformance.py --backbones mobilenet_v2 --size 64 --frames 4 --no-store
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _common import machine, store
from _plan_traffic import clip_traffic, compare, over_budget
from shift_graph import checkpoint, noise

from tsm_export.graphs.from_checkpoint import export_fp32
from tsm_export.graphs.half import to_half
from tsm_export.graphs.moved_channels import separate_moved_channels
from tsm_export.graphs.preprocess import preprocess_graph
from tsm_export.quantization.quantize import calibrate, quantize
from tsm_runtime.backends.tensorrt.build import build_plan
from tsm_runtime.backends.tensorrt.build_options import PICTURES, BuildOptions, parse_batch
from tsm_runtime.backends.tensorrt.inspector import Precision
from tsm_runtime.backends.tensorrt.library import import_library
from tsm_runtime.errors import TsmError

BACKBONES = ("resnext101_32x8d", "resnext101_64x4d", "resnet50", "mobilenet_v2", "efficientnet_lite0")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8-trt")
NUM_CALIBRATION_CLIPS = 3
MIB = 2**20


def main() -> None:
    """Export, build, print the table, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=BACKBONES, metavar="NAME")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS, metavar="NAME")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--batch", default="1,8,32", metavar="MIN,OPT,MAX")
    parser.add_argument("--name", default="conformance", help="results/NAME.json")
    parser.add_argument("--no-store", action="store_true", help="print only")
    options = parser.parse_args()
    try:
        options.build = BuildOptions(batch=parse_batch(options.batch))
        library = f"tensorrt_rtx {import_library('tensorrt_rtx').__version__}"
    except TsmError as error:
        parser.error(str(error))
    pictures = build(preprocess_graph(options.size), "fp32", PICTURES)
    rows = [{"backbone": "none: preprocess.onnx", **pictures}]
    traffic: dict[str, dict[str, Any]] = {}
    for backbone in options.backbones:
        built, moved = measure(backbone, options)
        rows += built
        traffic |= {backbone: moved} if moved else {}
    settings = {name: getattr(options, name) for name in ("size", "frames", "batch")}
    results = {"library": library, "settings": settings, "rows": rows, "traffic": traffic}
    if options.no_store:
        print(json.dumps({"machine": machine(), **results}))
    else:
        store(options.name, results)
    refused = [f"{row['backbone']} {row['precision']}" for row in rows if row["result"] != "built"]
    over = [line for name, moved in traffic.items() for line in over_budget(name, moved["ratios"])]
    if refused or over:
        sys.exit("\n".join([f"not conforming: {', '.join(refused)}"] * bool(refused) + over))


def measure(backbone: str, options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of one network, a precision each; and what it moves, where FP16 and INT8 are both built."""
    started = time.perf_counter()
    plain = export_fp32(checkpoint(backbone, options.size, options.frames, shift=True))
    print(f"{backbone}: exported in {time.perf_counter() - started:.0f} s", flush=True)
    clips = noise(NUM_CALIBRATION_CLIPS, options.frames, options.size)
    graphs: dict[Precision, Callable[[], bytes]] = {
        "fp32": lambda: separate_moved_channels(plain),
        "fp16": lambda: to_half(plain),
        "int8-trt": lambda: symmetric_int8(plain, clips),
    }
    made = {precision: graphs[precision]() for precision in options.precisions}
    rows = [
        {"backbone": backbone, **build(graph, precision, options.build)} for precision, graph in made.items()
    ]
    if not {"fp16", "int8-trt"} <= made.keys() or any(row["result"] != "built" for row in rows):
        return rows, {}
    return rows, traffic_of(backbone, made, options)


def traffic_of(
    backbone: str, made: dict[Precision, bytes], options: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """What plans of one network move for a clip, and the ratios that budgets limit."""
    still = to_half(export_fp32(checkpoint(backbone, options.size, options.frames, shift=False)))
    moved: dict[str, dict[str, Any]] = {
        "fp16": clip_traffic(made["fp16"], "fp16"),
        "fp16 without shift": clip_traffic(still, "fp16"),
        "int8-trt": clip_traffic(made["int8-trt"], "int8-trt"),
    }
    ratios = compare(moved)
    print(f"{backbone}: {ratios}", flush=True)
    return {**moved, "ratios": ratios}


def build(graph: bytes, precision: Precision, options: BuildOptions) -> dict[str, Any]:
    """Build a plan; what is refused becomes the row's result."""
    row: dict[str, Any] = {"precision": precision, "onnx_mib": round(len(graph) / MIB, 1)}
    started = time.perf_counter()
    try:
        built = build_plan(graph, options, library="tensorrt_rtx", precision=precision)
    except TsmError as error:
        row["result"] = str(error)
    else:
        row |= {
            "result": "built",
            "parsed_layers": built.num_layers,
            "layer_types": built.engine.layer_types,
            "evidence": built.evidence,
            "build_seconds": round(time.perf_counter() - started, 1),
            "plan_mib": round(len(built.plan) / MIB, 1),
        }
    print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    return row


def symmetric_int8(graph: bytes, clips: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Return the graph as TensorRT takes it in INT8, with no layer left out."""
    return quantize(calibrate(graph, clips), target="trt", max_noise=math.inf).data


if __name__ == "__main__":
    main()
