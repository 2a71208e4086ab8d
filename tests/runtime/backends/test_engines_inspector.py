from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.backends.tensorrt.inspector import (
    Layer,
    Precision,
    count_types,
    described_layers,
    inspected_layers,
    require_precision,
)
from tsm_runtime.errors import CheckError

# Description of a layer by TensorRT 10: type and layout of a tensor in one text.
TEN = {
    "Layers": [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0",
            "LayerType": "Reformat",
            "Inputs": [{"Name": "x", "Dimensions": [1, 3, 8, 8], "Format/Datatype": "Row major linear FP32"}],
            "Outputs": [
                {
                    "Name": "r",
                    "Dimensions": [1, 3, 8, 8],
                    "Format/Datatype": "Channel major FP16 format where channel % 8 == 0",
                }
            ],
            "TacticName": "0x0",
        },
        {
            "Name": "conv + relu",
            "LayerType": "CaskConvolution",
            "Inputs": [
                {"Name": "r", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}
            ],
            "Outputs": [{"Name": "y", "Format/Datatype": "Half"}],
            "Metadata": "[ONNX Layer: conv]\x1e[ONNX Layer: relu]",
        },
        {
            "Name": "shuffle",
            "LayerType": "NoOp",
            "Inputs": [{"Name": "y", "Format/Datatype": "N/A due to dynamic shapes"}],
            "Outputs": [{"Name": "z", "Format/Datatype": "N/A due to dynamic shapes"}],
        },
    ],
    "Bindings": ["x", "z"],
}
# The same of TensorRT 11.
ELEVEN = {
    "Layers": [
        {
            "Name": "copy",
            "LayerType": "Reformat",
            "Inputs": [{"Name": "x", "Datatype": "Float", "Format": "(Linear) Row major linear format"}],
            "Outputs": [{"Name": "r", "Datatype": "Half", "Format": "(NHWC) Channel major format"}],
        },
        {
            "Name": "conv",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "r", "DataType": "Int8", "Format": "(NHWC) Channel major format"}],
            "Outputs": [{"Name": "y", "DataType": "Half", "Format": "(NHWC) Channel major format"}],
        },
        {"Name": "shuffle", "LayerType": "NoOp", "Inputs": [{"Name": "y"}], "Outputs": []},
    ],
    "I/O Tensors": [{"Name": "x", "IOMode": "Input", "DataType": "Float"}],
}
EXPECTED = [Layer("Reformat", ("Float",), ("Half",)), Layer("CaskConvolution", ("Int8",), ("Half",))]


@pytest.mark.parametrize("document", [TEN, ELEVEN])
def test_both_layouts_of_the_inspector_say_the_same(document: dict[str, object]) -> None:
    layers = inspected_layers(json.dumps(document))
    assert layers == EXPECTED
    assert count_types(layers) == {"Half": 2}


def test_control_characters_between_fused_names_are_read_over() -> None:
    text = json.dumps(TEN).replace(r"\u001e", "\x1e")
    assert "\x1e" in text
    assert inspected_layers(text) == EXPECTED


@pytest.mark.parametrize(
    "text",
    ["", "not JSON", "[]", "{}", '{"Layers": ["a", "b"]}', '{"Layers": [{"Inputs": "x", "Outputs": 3}]}'],
)
def test_what_states_no_types_gives_no_layers(text: str) -> None:
    assert inspected_layers(text) == []


# As TensorRT for RTX 1.7 logs it at the end of a build, shortened.
LOG = """Layers:
Name: __mye5_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0
Name: CastMean_myl0_1, LayerType: kgen, \
Inputs: [ { Name: frames, Dimensions: [-1,4], Datatype: UInt8, Format: (Linear) Row major linear format }], \
Constants: [ { Name: c, Datatype: Float }], \
Outputs: [ { Name: a, Datatype: Half, Format: (NHWC) Channel major }, { Name: b, Datatype: BFloat16 }], \
TacticName: t, StreamId: 0
Name: conv_2, LayerType: correlation, Inputs: [ { Name: a, Datatype: Int8 }, { Name: b, Datatype: Half }], \
Constants: [], Outputs: [ { Name: scores, Datatype: Float }], TacticName: __myelin_CASK_STUB, StreamId: 0

I/O Tensors:
 Name: frames, IOMode: Input, DataType: UInt8, Dimensions: [-1,4], Location: Device
"""


def test_the_builders_log_states_the_layers() -> None:
    assert described_layers(LOG) == [
        Layer("shape_call", (), ()),
        Layer("kgen", ("UInt8",), ("Half", "BFloat16")),
        Layer("correlation", ("Int8", "Half"), ("Float",)),
    ]
    assert described_layers("") == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("HALF", "Half"),
        ("Row major linear FP16 format", "Half"),
        ("Two wide channel vectorized row major FP16 format", "Half"),
        ("Row major linear FP32 format (kLINEAR)", "Float"),
        ("FLOAT", "Float"),
        ("Row major linear UINT8 format", "UInt8"),
        ("Row major Int8 format", "Int8"),
        ("Row major linear BF16 format", "BFloat16"),
        ("Row major INT32 format", "Int32"),
        ("INT64", "Int64"),
        ("FP8", "FP8"),
        ("Bool", "Bool"),
    ],
)
def test_every_spelling_of_a_type_is_known(text: str, name: str) -> None:
    document = {"Layers": [{"LayerType": "x", "Inputs": [{"Format/Datatype": text}], "Outputs": []}]}
    assert inspected_layers(json.dumps(document)) == [Layer("x", (name,), ())]


def conv(name: str, output: str = "Float") -> Layer:
    return Layer("CaskConvolution", (name,), (output,))


POINTWISE = Layer("kgen", ("Half",), ("Half",))


@pytest.mark.parametrize(
    ("layers", "precision"),
    [
        ([conv("Half"), conv("Float")], "fp16"),
        ([conv("Half"), *[conv("Float")] * 9], "fp16"),
        ([conv("Int8"), Layer("gemm", ("Float", "Float"), ("Float",))], "int8"),
        ([conv("Int8", "Half"), conv("Half", "Half")], "int8-trt"),
        ([conv("Float"), POINTWISE], "fp32"),
        ([POINTWISE], "fp16"),
        ([Layer("kgen", ("UInt8",), ("Float",))], "fp32"),
    ],
)
def test_the_requested_precision_is_found(layers: list[Layer], precision: Precision) -> None:
    require_precision(layers, precision, "the plan")


@pytest.mark.parametrize(
    ("layers", "precision", "words"),
    [
        # The trap: what stands around the convolutions is Half, and they are not.
        ([conv("Float"), *[POINTWISE] * 50], "fp16", "of 1 heavy layers 0 are Half (Float 1)"),
        ([conv("Half"), *[conv("Float")] * 10], "fp16", "of 11 heavy layers 1 are Half (Float 10, Half 1)"),
        ([conv("Half")], "int8", "of 1 heavy layers 0 are Int8 (Half 1)"),
        # A convolution that gives INT8 has not computed in it.
        ([conv("Float", "Int8")], "int8-trt", "of 1 heavy layers 0 are Int8 (Float 1)"),
        ([*[conv("Float")] * 50, conv("Half")], "fp32", "of 51 heavy layers 50 are Float (Float 50, Half 1)"),
        ([], "fp32", "of 0 tensors 0 are Float (no type is known)"),
        ([POINTWISE], "fp32", "of 2 tensors 0 are Float (Half 2)"),
    ],
)
def test_a_missing_precision_is_an_error(layers: list[Layer], precision: Precision, words: str) -> None:
    with pytest.raises(CheckError) as raised:
        require_precision(layers, precision, "the plan")
    assert f"the plan is not {precision}: {words}" in str(raised.value)


TYPES = st.sampled_from(["Float", "Half", "Int8", "UInt8", "Int64"])
LAYERS = st.lists(
    st.builds(
        Layer,
        kind=st.sampled_from(["CaskConvolution", "gemm", "kgen", "Reformat"]),
        inputs=st.lists(TYPES, max_size=2).map(tuple),
        outputs=st.lists(TYPES, max_size=2).map(tuple),
    ),
    max_size=12,
)


def written(layers: list[Layer], key: str) -> str:
    def tensors(names: tuple[str, ...]) -> list[dict[str, str]]:
        return [{"Name": "t", key: name} for name in names]

    return json.dumps(
        {
            "Layers": [
                {"LayerType": layer.kind, "Inputs": tensors(layer.inputs), "Outputs": tensors(layer.outputs)}
                for layer in layers
            ]
        }
    )


@given(LAYERS, st.sampled_from(["Format/Datatype", "Datatype", "DataType"]))
def test_what_is_written_is_read(layers: list[Layer], key: str) -> None:
    typed = [layer for layer in layers if layer.inputs or layer.outputs]
    assert inspected_layers(written(layers, key)) == typed
    counts = count_types(layers)
    assert sum(counts.values()) == sum(len(layer.outputs) for layer in layers)
    assert list(counts.values()) == sorted(counts.values(), reverse=True)


@given(LAYERS)
def test_a_plan_without_the_type_never_passes_for_it(layers: list[Layer]) -> None:
    without = [layer for layer in layers if "Half" not in (*layer.inputs, *layer.outputs)]
    with pytest.raises(CheckError, match="the plan is not fp16"):
        require_precision(without, "fp16", "the plan")
