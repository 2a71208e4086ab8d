import collections
import copy
import warnings

import onnx
import onnxruntime
import pytest
import torch
import torchvision
from torch import nn

from tsm_runtime.errors import UsageError
from tsm_train.model.backbones import BACKBONES, LITE, build_backbone
from tsm_train.model.shift import ShiftedConv2d
from tsm_train.model.tsm import TSM, Probabilities

CLASSIFIER = ("fc.", "classifier.")


def settled(model, size=32):
    """A random model whose activations are of order one: BN statistics measured, heads not near zero.

    Without this the outputs of a random mobilenet_v2 differ by 1e-8, and any comparison of them holds.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(random_frames(4, model.num_frames, size))
        for head in (model.action_head, model.scene_head):
            if head is not None:
                head.weight.normal_(std=0.1)
    return model.eval()


def random_frames(clips, num_frames=8, size=32):
    return torch.randint(0, 256, (clips, num_frames, size, size, 3), dtype=torch.uint8)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return settled(TSM("mobilenet_v2", 7, 5, num_frames=4, width_mult=0.25))


def shifted_names(model):
    return [name for name, module in model.backbone.named_modules() if isinstance(module, ShiftedConv2d)]


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        ("resnet50", [f"layer{i}.{j}.conv1" for i, n in ((1, 3), (2, 4), (3, 6), (4, 3)) for j in range(n)]),
        *(
            (
                name,
                [f"layer{i}.{j}.conv1" for i, n in ((1, 3), (2, 4), (3, 23), (4, 3)) for j in range(0, n, 2)],
            )
            for name in ("resnext101_32x8d", "resnext101_64x4d")
        ),
        ("mobilenet_v2", [f"features.{i}.conv.0.0" for i in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)]),
        (
            "efficientnet_lite0",
            [
                f"blocks.{i}.{j}.conv_pw"
                for i, n in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 4))
                for j in range(1, n)
            ],
        ),
        *(
            (
                name,
                [
                    f"blocks.{i}.{j}.conv_pw"
                    for i, n in ((1, 3), (2, 3), (3, 4), (4, 4), (5, 5))
                    for j in range(1, n)
                ],
            )
            for name in ("efficientnet_lite1", "efficientnet_lite2")
        ),
    ],
)
def test_which_convolutions_are_shifted(backbone, expected):
    with torch.device("meta"):
        model = TSM(backbone, 3, 2, num_frames=6, fold_div=4)
        unshifted = TSM(backbone, 3, 2, shift=False)
    assert shifted_names(model) == expected
    assert shifted_names(unshifted) == []
    for name in expected:
        conv = model.backbone.get_submodule(name)
        assert (conv.kernel_size, conv.num_frames, conv.fold_div) == ((1, 1), 6, 4)


def test_published_members_shift_18_of_33_blocks():
    with torch.device("meta"):
        assert len(shifted_names(TSM("resnext101_32x8d", 3))) == 18
        assert len(shifted_names(TSM("resnet50", 3))) == 16
        assert len(shifted_names(TSM("mobilenet_v2", 3))) == 10


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name not in (*LITE, "audio")])
def test_keys_are_torchvisions_without_classifier(backbone):
    with torch.device("meta"):
        plain = torchvision.models.get_model(backbone, weights=None).state_dict()
        model = TSM(backbone, 3, 2)
    expected = {key: value.shape for key, value in plain.items() if not key.startswith(CLASSIFIER)}
    assert {key: value.shape for key, value in model.backbone.state_dict().items()} == expected


@pytest.mark.parametrize("backbone", LITE)
def test_keys_of_lite_are_timms_without_classifier(backbone):
    import timm

    with torch.device("meta"):
        plain = timm.create_model(f"tf_{backbone}").state_dict()
        model = TSM(backbone, 3)
    expected = {key: value.shape for key, value in plain.items() if not key.startswith(CLASSIFIER)}
    assert {key: value.shape for key, value in model.backbone.state_dict().items()} == expected


def test_checkpoint_has_the_backbone_and_the_heads_and_nothing_else(small):
    assert {key.split(".")[0] for key in small.state_dict()} == {"backbone", "action_head", "scene_head"}
    heads = [key for key in small.state_dict() if not key.startswith("backbone.")]
    assert heads == ["action_head.weight", "action_head.bias", "scene_head.weight", "scene_head.bias"]


def test_features_are_those_of_the_plain_network():
    torch.manual_seed(0)
    plain = torchvision.models.resnet50(weights=None)
    model = TSM("resnet50", 3, num_frames=2, shift=False).eval()
    model.backbone.load_state_dict(plain.state_dict(), strict=False)
    plain.fc = nn.Identity()
    frames = random_frames(1, 2, 64)
    pixels = frames[0].permute(0, 3, 1, 2) / 255
    pixels = torchvision.transforms.functional.normalize(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        torch.testing.assert_close(
            model.frame_features(frames)[0], plain.eval()(pixels), rtol=1e-4, atol=1e-4
        )


def test_forward_is_normalise_backbone_pool_mean_heads(small):
    frames = random_frames(3, 4)
    # The backbone takes the first frames of all clips, then the second ones.
    pixels = torch.cat([frames[:, time] for time in range(4)]).permute(0, 3, 1, 2).float()
    built = build_backbone("mobilenet_v2")
    mean, std = torch.tensor(built.mean).reshape(3, 1, 1), torch.tensor(built.std).reshape(3, 1, 1)
    with torch.no_grad():
        features = small.backbone((pixels - mean) / std).mean((2, 3)).reshape(4, 3, -1).mean(0)
        action, scene = small(frames)
        torch.testing.assert_close(action, small.action_head(features))
        torch.testing.assert_close(scene, small.scene_head(features))
    assert (action.shape, scene.shape) == ((3, 7), (3, 5))


def test_logits_are_the_mean_of_each_frames_logits(small):
    """Mean then head equals the original's consensus, head then mean, because the head is linear."""
    frames = random_frames(2, 4)
    with torch.no_grad():
        per_frame = small.action_head(small.frame_features(frames))
        torch.testing.assert_close(small(frames)[0], per_frame.mean(1))


def test_pixels_may_come_as_floats(small):
    frames = random_frames(2, 4)
    with torch.no_grad():
        assert torch.equal(small(frames)[0], small(frames.float())[0])


def test_without_scene_head():
    model = TSM("mobilenet_v2", 7, num_frames=2, width_mult=0.25).eval()
    with torch.no_grad():
        action, scene = model(random_frames(1, 2))
    assert scene is None
    assert action.shape == (1, 7)
    assert not any(key.startswith("scene_head") for key in model.state_dict())


def test_lite0_normalises_as_its_weights_expect():
    with torch.device("meta"):
        built = build_backbone("efficientnet_lite0")
    assert (built.mean, built.std, built.feature_dim) == ((127.0,) * 3, (128.0,) * 3, 1280)


def test_heads_start_near_zero():
    model = TSM("mobilenet_v2", 50, 20, width_mult=0.25)
    for head in (model.action_head, model.scene_head):
        assert head.weight.std().item() == pytest.approx(0.001, rel=0.05)
        assert not head.bias.any()


@pytest.mark.parametrize("shift", [True, False])
def test_only_the_shift_sees_the_order_of_frames(shift):
    torch.manual_seed(0)
    model = settled(TSM("mobilenet_v2", 7, 5, shift=shift, width_mult=0.25))
    frames = random_frames(2)
    with torch.no_grad():
        difference = (model(frames)[0] - model(frames.flip(1))[0]).abs().max().item()
    assert difference > 1e-2 if shift else difference < 1e-5


def test_clips_of_a_batch_do_not_touch(small):
    frames = random_frames(3, 4).float()
    with torch.no_grad():
        alone = small(frames[1:2])[0]
        frames[0] = torch.inf
        frames[2] = torch.nan
        torch.testing.assert_close(small(frames)[0][1:2], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "got"),
    [
        ((2, 3, 32, 32, 3), r"got \(2, 3, 32, 32, 3\)"),
        ((2, 4, 3, 32, 32), r"got \(2, 4, 3, 32, 32\)"),
        ((8, 32, 32, 3), r"got \(8, 32, 32, 3\)"),
    ],
)
def test_wrong_frames_are_refused(small, shape, got):
    with pytest.raises(ValueError, match=rf"expected \(N, 4, H, W, 3\), {got}"):
        small(torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize("numbers", [(0, 0, 8), (3, -1, 8), (3, 0, 0)])
def test_numbers_out_of_range_are_refused(numbers):
    actions, scenes, frames = numbers
    with pytest.raises(ValueError, match=f"got {actions}, {scenes} and {frames}"):
        TSM("mobilenet_v2", actions, scenes, num_frames=frames)


def test_unknown_backbone_names_the_nearest_and_the_allowed():
    with pytest.raises(
        UsageError, match=r"'resnet5'\. Did you mean 'resnet50'\? Allowed: resnext101_32x8d, "
    ) as caught:
        build_backbone("resnet5")
    assert all(name in str(caught.value) for name in BACKBONES)
    with pytest.raises(UsageError, match=r"'vit'\. Allowed"):
        build_backbone("vit")


def test_width_is_for_mobilenet_only():
    with pytest.raises(UsageError, match=r"width_mult 0\.5 is for mobilenet_v2 only; resnet50 needs"):
        build_backbone("resnet50", width_mult=0.5)
    with pytest.raises(UsageError, match="width_mult must be above 0, got 0"):
        build_backbone("mobilenet_v2", width_mult=0.0)


def test_every_parameter_learns():
    torch.manual_seed(0)
    model = TSM("mobilenet_v2", 7, 5, num_frames=2, width_mult=0.25).train()
    action, scene = model(random_frames(2, 2))
    (action.square().sum() + scene.square().sum()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert any(conv.weight.grad.any() for conv in model.modules() if isinstance(conv, ShiftedConv2d))


def test_a_half_precision_backbone_keeps_float32_heads(small):
    frames = random_frames(1, 4)
    model = copy.deepcopy(small)
    model.backbone.half()
    with torch.no_grad():
        exact, rounded = small.frame_features(frames), model.frame_features(frames)
        action, _ = model(frames)
    assert rounded.dtype == action.dtype == torch.float32
    assert nn.functional.cosine_similarity(rounded, exact, dim=2).min() > 0.99


def test_probabilities(small):
    frames = random_frames(2, 4)
    with torch.no_grad():
        logits, _ = small(frames)
        action, scene = Probabilities(small)(frames)
        independent, _ = Probabilities(small, sigmoid=True)(frames)
    torch.testing.assert_close(action, logits.softmax(1))
    torch.testing.assert_close(independent, logits.sigmoid())
    torch.testing.assert_close(scene.sum(1), torch.ones(2))


@pytest.mark.parametrize(
    ("backbone", "width_mult", "num_scenes", "num_shifts"),
    [("mobilenet_v2", 0.5, 5, 10), ("efficientnet_lite0", 1.0, 0, 9)],
)
def test_exports_to_onnx_with_any_batch(tmp_path, backbone, width_mult, num_scenes, num_shifts):
    torch.manual_seed(0)
    model = Probabilities(settled(TSM(backbone, 7, num_scenes, width_mult=width_mult), 64))
    path = export(model, tmp_path / "model.onnx", 96)
    graph = onnx.load(path).graph
    onnx.checker.check_model(path, full_check=True)

    operators = collections.Counter(node.op_type for node in graph.node)
    # Per shift: one split; two frames cut off, each joined with zeros; one cat. A pad would be lite0's SAME
    # padding, which belongs into the convolutions.
    shifts = {name: operators[name] for name in ("Split", "Slice", "Pad")}
    assert shifts == {"Split": num_shifts, "Slice": 2 * num_shifts, "Pad": 0}
    assert operators["Concat"] == 3 * num_shifts + operators["ConstantOfShape"]  # these take a shape each
    assert operators["Shape"] == 1, "the number of clips is found once"
    assert operators["Reshape"] <= 4, "no shift folds or unfolds a tensor"
    assert not operators.keys() & {"ScatterND", "Gather", "Where", "Expand", "BatchNormalization"}
    consumers = [node.op_type for node in graph.node if "frames" in node.input]
    assert set(consumers) == {"Shape", "Cast"}

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for clips in (1, 2, 3):
        frames = random_frames(clips, 8, 96)
        with torch.no_grad():
            expected = model(frames)
        got = session.run(None, {"frames": frames.numpy()})
        assert len(got) == len(expected)
        for ours, theirs in zip(expected, got, strict=True):
            torch.testing.assert_close(torch.from_numpy(theirs), ours, rtol=0, atol=1e-4)


def export(model, path, size):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own exporter
        torch.onnx.export(
            model,
            (random_frames(2, 8, size),),
            path,
            dynamo=True,
            external_data=False,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
            input_names=["frames"],
            verbose=False,
        )
    return path
