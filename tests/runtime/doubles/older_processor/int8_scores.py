"""Scores of ONNX files on some clips, by the runtime's own session: a program for a masked processor.

    python int8_scores.py BUNDLE CLIPS.npy SCORES.npz

Writes the instructions that INT8 runs on to standard output.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tsm_runtime.backends.onnxruntime import OnnxruntimeBackend
from tsm_runtime.backends.onnxruntime_module import integer_instructions
from tsm_runtime.bundle.bundle import load_bundle


def main(bundle: str, clips: str, scores: str) -> None:
    """Score the clips with every ONNX file of the bundle."""
    opened, frames = load_bundle(Path(bundle)), np.load(clips)
    backends = {name: OnnxruntimeBackend(opened, name, num_threads=1) for name in opened.manifest.files}
    np.savez(scores, **{name: backend.infer(frames).action for name, backend in backends.items()})
    sys.stdout.write(integer_instructions())


if __name__ == "__main__":
    main(*sys.argv[1:])
