"""INT8 against fp32 on this machine's CPU: how much faster, and what it costs.

For each backbone the fp32 ONNX file that tsm-export writes and its INT8 form take turns on the same clip,
in onnxruntime with --threads threads. Read `times_as_fast`: first quartile, median and third quartile over
rounds of fp32's time over INT8's in that round. efficientnet_lite0 takes the weights of a training run
(--run), and is also scored, in FP16 too, on that run's validation videos at the run's own picture size: mAP,
scene top-1, top-1 agreement with fp32, and the probability that passes from one label to another, mean over
clips. The others have random weights whose batch statistics were taken from real frames: their speed is that
of trained ones (without statistics, activations shrink to denormal numbers, which are slow), their accuracy
means nothing and is not measured. `instructions`: what INT8 ran on; with LD_PRELOAD and the library made of
tests/runtime/doubles/older_processor/mask_cpuid.c, a newer processor is one without VNNI.

    python benchmarks/int8.py --run runs/ut-shift-s0
    python benchmarks/int8.py --run runs/ut-shift-s0 --backbones --name int8_ut    accuracy alone
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from pathlib import Path
from typing import Any

import msgspec
from _common import in_turns, ratios, store
from networks import frames_of, noise_limit, resized, timed_network

from tsm_export.accuracy import OnnxBackend, compare_results, mean_differences, run_models
from tsm_export.footage import calibration_videos, validation_videos
from tsm_export.graphs.from_checkpoint import export_fp32
from tsm_export.graphs.half import to_half
from tsm_export.graphs.moved_channels import separate_moved_channels
from tsm_export.quantization.calibration import calibration_clips
from tsm_export.quantization.quantize import QuantizedModel, calibrate, quantize
from tsm_runtime.backends.onnxruntime_module import integer_instructions
from tsm_train.training.checkpoint import Checkpoint, load_checkpoint

TRAINED = "efficientnet_lite0"
TARGETS = {"resnet50": 3.0, "efficientnet_lite0": 2.2, "mobilenet_v2": 2.2}
"""Least `times_as_fast` on two cores."""


def main() -> None:
    """Measure, print a line per network, store the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help=f"run folder of a trained {TRAINED}")
    parser.add_argument("--backbones", nargs="*", default=list(TARGETS), help="none: accuracy only")
    parser.add_argument("--size", type=int, default=256, help="edge of the timed pictures")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--clips", type=int, default=40, help="calibration clips of the timed networks")
    parser.add_argument("--no-accuracy", action="store_true", help="time only")
    parser.add_argument("--name", default="int8", help="results/NAME.json")
    options = parser.parse_args()
    trained = load_checkpoint(options.run / "best.safetensors")
    rows = [one_backbone(name, trained, options) for name in options.backbones]
    table: dict[str, Any] = {
        "instructions": integer_instructions(),
        "settings": {"size": options.size, "threads": options.threads, "rounds": options.rounds},
        "speed": rows,
    }
    if not options.no_accuracy:
        table["accuracy"] = measure_accuracy(trained)
    store(options.name, table)


def one_backbone(name: str, trained: Checkpoint, options: argparse.Namespace) -> dict[str, Any]:
    """Quantise one network and time both forms."""
    clips = frames_of(resized(trained, name, options.size), options.clips)
    checkpoint = timed_network(trained, name, options.size, clips)
    plain = export_fp32(checkpoint)
    quantized = quantize(calibrate(plain, clips), target="cpu", max_noise=noise_limit(trained, name))
    graphs = {"fp32": separate_moved_channels(plain), "int8": quantized.data}
    backends = {form: OnnxBackend(data, options.threads) for form, data in graphs.items()}
    works = {form: functools.partial(backend.infer, clips[:1]) for form, backend in backends.items()}
    times = in_turns(works, options.rounds)
    row = {
        "backbone": name,
        "weights": "trained"
        if name == trained.config.model.backbone
        else "random, batch statistics of frames",
        "times_as_fast": ratios(times, "fp32", "int8"),
        "target": TARGETS.get(name),
        "fp32_ms": round(1000 * statistics.median(times["fp32"]), 2),
        "int8_ms": round(1000 * statistics.median(times["int8"]), 2),
        "fp32_mb": round(len(plain) / 1e6, 2),
        "int8_mb": round(len(quantized.data) / 1e6, 2),
        **described(quantized),
    }
    print(row, flush=True)
    return row


def measure_accuracy(trained: Checkpoint) -> dict[str, Any]:
    """Score the trained network in fp32, FP16 and both INT8 forms on its validation videos."""
    config, labels = trained.config, trained.labels
    plain = export_fp32(trained)
    started = time.perf_counter()
    clips = calibration_clips(calibration_videos(config.data), config.clip_spec)
    measured = calibrate(plain, clips)
    seconds = {"clips_and_ranges": round(time.perf_counter() - started, 1)}
    models = {"fp32": OnnxBackend(plain), "fp16": OnnxBackend(to_half(plain))}
    quantized: dict[str, QuantizedModel] = {}
    for name, target in (("int8", "cpu"), ("int8-trt", "trt")):
        started = time.perf_counter()
        quantized[name] = quantize(measured, target=target)  # type: ignore[arg-type]
        seconds[name] = round(time.perf_counter() - started, 1)
        models[name] = OnnxBackend(quantized[name].data)
    validation = validation_videos(config.data)
    results = run_models(models, labels, config.clip_spec, validation)
    reports = compare_results(results, validation)
    return {
        "run": config.name,
        "size": config.clip.size,
        "instances": sum(len(video.segments) for video, _ in validation.videos),
        "calibration_seconds": seconds,
        "models": {
            name: {
                **msgspec.to_builtins(report),
                "moved_probability": mean_differences(results["fp32"], results[name]),
                **(described(quantized[name]) if name in quantized else {}),
            }
            for name, report in reports.items()
        },
    }


def described(quantized: QuantizedModel) -> dict[str, Any]:
    """Return the figures of a quantised model for JSON."""
    return {
        "left_out": quantized.left_out,
        "range_rule": quantized.range_rule,
        "noise": round(quantized.noise, 4),
        "noise_before": round(quantized.noise_before, 4),
    }


if __name__ == "__main__":
    main()
