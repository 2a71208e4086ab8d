"""A shift of stored values, on onnxruntime, against its definition."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tsm_export.quantization.recognise import Shift
from tsm_export.quantization.stored_parts import stored_shift

T, SIZE = 3, 2


def shifted(shift: Shift, values: np.ndarray, scale: float, zero: int) -> np.ndarray:
    """Run the part alone on (T*N, C, H, W) uint8."""
    part = stored_shift(shift, "x", ["scale", "zero"])
    constants = {**part.constants, "scale": np.float32(scale), "zero": np.uint8(zero)}
    shape = [None, shift.channels, shift.height, shift.width]
    graph = helper.make_graph(
        list(part.nodes),
        "shift",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info(part.nodes[-1].output[0], TensorProto.UINT8, shape)],
        [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": values})[0])


@settings(max_examples=40)
@given(
    counts=st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 20)),
    clips=st.integers(1, 3),
    scale=st.floats(1e-4, 3.0),
    zero=st.integers(0, 255),
    seed=st.integers(0, 99),
)
def test_every_byte_goes_where_the_definition_says(
    counts: tuple[int, int, int], clips: int, scale: float, zero: int, seed: int
) -> None:
    following, preceding, still = counts
    channels = following + preceding + still
    x = np.random.default_rng(seed).integers(0, 256, (T, clips, channels, SIZE, SIZE), np.uint8)
    expected = x.copy()
    expected[:, :, : following + preceding] = zero
    for time in range(T):
        if time + 1 < T:
            expected[time, :, :following] = x[time + 1, :, :following]
        if time:
            moved = slice(following, following + preceding)
            expected[time, :, moved] = x[time - 1, :, moved]
    shift = Shift(T, channels, SIZE, SIZE, following=following, preceding=preceding)
    got = shifted(shift, x.reshape(-1, channels, SIZE, SIZE), scale, zero)
    np.testing.assert_array_equal(got, expected.reshape(got.shape))


@pytest.mark.parametrize("time", [0, T - 1])
def test_the_ends_of_a_clip_get_zeros_and_not_another_clip(time: int) -> None:
    x = np.full((T, 2, 4, SIZE, SIZE), 7, np.uint8)
    x[:, 1] = 200
    got = shifted(Shift(T, 4, SIZE, SIZE, 1, 1), x.reshape(-1, 4, SIZE, SIZE), 0.5, 9).reshape(x.shape)
    assert set(np.unique(got[time, 0])) == {7, 9}
    assert set(np.unique(got[time, 1])) == {200, 9}
