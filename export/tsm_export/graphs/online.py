"""A checkpoint with shift from the past as an ONNX file that takes one frame a call, and its comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tsm_export.graphs.from_checkpoint import PARITY_TOLERANCE, export_graph, free_axis, score_outputs
from tsm_export.graphs.parity import (
    Outputs,
    Signature,
    name_outputs,
    parity_batches,
    report_parity,
    require_signature,
)
from tsm_export.graphs.session import open_session
from tsm_export.request import DEFAULT_OPSET
from tsm_runtime.backends.online import FRAME, next_name
from tsm_runtime.bundle.reports import ParityReport
from tsm_runtime.errors import UsageError
from tsm_train.model.online import OnlineTSM
from tsm_train.model.tsm import Probabilities
from tsm_train.training.checkpoint import Checkpoint

_EXAMPLE_CLIPS = 2


def export_online(checkpoint: Checkpoint, *, opset: int = DEFAULT_OPSET) -> bytes:
    """Return the ONNX file of a checkpoint's online model, `model.online.onnx` of a bundle.

    Inputs: `frame` uint8 (N, size, size, 3) and float32 states, `feature_sum` (N, D), `count` (N, 1) and per
    shifted convolution `state_<i>` (N, f, h, w). Outputs: the scores of each clip up to this frame, as the
    clip-wise graph names them, and for every state `next_<state>`, its value for the next frame. A clip
    begins with states of zeros. N is free, and its clips are independent.

    Raises:
        UsageError: a frame of this model sees later ones, or the weights do not fit the configuration.
    """
    step = _step(checkpoint)
    size = checkpoint.config.clip.size
    states = step.initial_states(_EXAMPLE_CLIPS, size)
    names = list(step.state_shapes(size))
    free = free_axis("clips")
    return export_graph(
        step,
        (torch.zeros((_EXAMPLE_CLIPS, size, size, 3), dtype=torch.uint8), *states),
        [FRAME, *names],
        [*score_outputs(checkpoint), *map(next_name, names)],
        (free, (free,) * len(states)),
        opset=opset,
    )


def _step(checkpoint: Checkpoint) -> OnlineTSM:
    model = checkpoint.config.model
    if model.shift and model.shift_direction != "past":
        raise UsageError(
            f"checkpoint {checkpoint.config.name!r}: its frames see later frames, so it cannot run online;"
            ' train with model.shift_direction = "past"'
        )
    return OnlineTSM(checkpoint.model(), sigmoid=checkpoint.labels.head == "sigmoid").eval()


def compare_online(
    checkpoint: Checkpoint,
    onnx_bytes: bytes,
    frames: npt.NDArray[np.uint8],
    *,
    tolerance: float = PARITY_TOLERANCE,
) -> ParityReport:
    """Compare an online ONNX file, frame by frame on onnxruntime, with the clip-wise checkpoint in PyTorch.

    Every clip of a batch is a stream that goes through two intervals: the clip, states of zeros, and the clip
    backwards. The scores after the last frame of each interval are compared.

    Args:
        checkpoint: the truth.
        onnx_bytes: the file.
        frames: (N, T, size, size, 3) uint8, N at least the sum of the compared batch sizes.
        tolerance: largest allowed difference of a probability.

    Raises:
        CheckError: a name or shape differs, a value is not finite, or a probability differs by more than the
            tolerance.
    """
    session, outputs = open_session(onnx_bytes), score_outputs(checkpoint)
    size = checkpoint.config.clip.size
    shapes = _step(checkpoint).state_shapes(size)
    states: Signature = {name: ("tensor(float)", shape) for name, shape in shapes.items()}
    following = {next_name(name): kind for name, kind in states.items()}
    require_signature(session, {FRAME: ("tensor(uint8)", [size, size, 3]), **states, **outputs, **following})
    model = Probabilities(checkpoint.model(), sigmoid=checkpoint.labels.head == "sigmoid").eval()
    pairs = []
    for batch in parity_batches(frames):
        for clips in (batch, np.ascontiguousarray(batch[:, ::-1])):
            with torch.inference_mode():
                expected = model(torch.from_numpy(clips))
            pairs.append((name_outputs(outputs, expected), _last_scores(session, clips, shapes)))
    return report_parity(pairs, tolerance=tolerance)


def _last_scores(session: Any, clips: npt.NDArray[np.uint8], shapes: Mapping[str, Sequence[int]]) -> Outputs:
    """Run the frames of clips (N, T, size, size, 3) one after another; return the last outputs."""
    values = {next_name(name): np.zeros((len(clips), *shape), np.float32) for name, shape in shapes.items()}
    outputs = [output.name for output in session.get_outputs()]
    for place in range(clips.shape[1]):
        states = {name: values[next_name(name)] for name in shapes}
        frame = np.ascontiguousarray(clips[:, place])
        values = dict(zip(outputs, session.run(outputs, {FRAME: frame, **states}), strict=True))
    return values
