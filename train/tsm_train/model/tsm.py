"""The multi-task temporal shift model: frames of a clip to action and scene scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tsm_runtime.bundle.manifest import ShiftDirection
from tsm_train.model.backbones import build_backbone
from tsm_train.model.shift import FOLD_DIV, ShiftedConv2d
from tsm_train.sections.after_backbone import AudioConfig


class TSM(nn.Module):
    """A 2-D backbone with temporal shift, the mean over space and time, and two linear heads.

    The weights are random; `pretrained.load_pretrained` fills the backbone. Parameters are named
    `backbone.<the plain network's key>`, `action_head.…` and, with scenes, `scene_head.…`.

    Args:
        backbone: a name in `backbones.BACKBONES`.
        num_actions: A, outputs of the action head, background included.
        num_scenes: S, outputs of the scene head; 0 for a model without one.
        num_frames: T, frames per clip.
        shift: False gives the same network without any exchange between frames (TSN).
        shift_direction, fold_div: see `shift.temporal_shift`.
        width_mult: see `backbones.build_backbone`.
        dropout: probability, on each frame's pooled features.
        audio: input and width of the backbone "audio".

    Raises:
        UsageError: unknown backbone or width.
        ValueError: a number that is out of its range.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str,
        num_actions: int,
        num_scenes: int = 0,
        *,
        num_frames: int = 8,
        shift: bool = True,
        shift_direction: ShiftDirection = "both",
        fold_div: int = FOLD_DIV,
        width_mult: float = 1.0,
        dropout: float = 0.5,
        audio: AudioConfig | None = None,
    ) -> None:
        super().__init__()
        if num_actions < 1 or num_scenes < 0 or num_frames < 1:
            raise ValueError(
                "expected num_actions >= 1, num_scenes >= 0 and num_frames >= 1, got "
                f"{num_actions}, {num_scenes} and {num_frames}"
            )
        built = build_backbone(backbone, width_mult=width_mult, audio=audio)
        self.backbone_name = backbone
        self.width_mult = width_mult
        self.num_frames = num_frames
        self.feature_dim = built.feature_dim
        self.backbone = built.features
        if shift:
            for name in built.shifted_convs:
                _insert_shift(self.backbone, name, num_frames, fold_div, shift_direction)
        # Not persistent: they belong to the architecture, and a checkpoint must not be able to change them.
        self.register_buffer("mean", torch.tensor(built.mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(built.std).reshape(-1, 1, 1), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.action_head = _head(built.feature_dim, num_actions)
        self.scene_head = _head(built.feature_dim, num_scenes) if num_scenes else None

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """Classify clips.

        Args:
            frames: (N, T, H, W, C) in 0..255, uint8 or floating point, not normalised: RGB, or pictures of
                sound (see `tsm_runtime.audio.pictures`).

        Returns:
            Action logits (N, A) and scene logits (N, S), or None in a model without scene head.

        Raises:
            ValueError: the shape is not (N, T, H, W, C) with this model's T and C.
        """
        return self.classify(self.dropout(self.frame_features(frames)).mean(1))

    def classify(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return action logits (N, A) and scene logits (N, S) or None of clip features (N, feature_dim)."""
        scene_logits = self.scene_head(features) if self.scene_head is not None else None
        return self.action_head(features), scene_logits

    def frame_features(self, frames: Tensor) -> Tensor:
        """Pooled features of each frame.

        Args:
            frames: as for `forward`.

        Returns:
            (N, T, feature_dim) float32.
        """
        channels = len(self.mean)
        if frames.ndim != 5 or frames.shape[1] != self.num_frames or frames.shape[4] != channels:
            raise ValueError(
                f"frames: expected (N, {self.num_frames}, H, W, {channels}), got {tuple(frames.shape)}; "
                f"this model takes {self.num_frames} frames per clip"
            )
        _, _, height, width, _ = frames.shape
        # The cast comes first: TensorRT accepts a uint8 input only into a cast. Then the order of time, in
        # which the shift is a shift by rows.
        pictures = frames.float().transpose(0, 1).reshape(-1, height, width, channels)
        features = self.picture_features(pictures).reshape(self.num_frames, -1, self.feature_dim)
        return features.transpose(0, 1)

    def picture_features(self, pictures: Tensor) -> Tensor:
        """Pooled features (B, feature_dim) of pictures (B, H, W, C), the first frames of all clips first."""
        pixels = pictures.float().permute(0, 3, 1, 2)
        normalised = (pixels - self.mean) / self.std
        # `backbone` alone may be half precision; normalisation, pooling and heads stay in float32.
        maps: Tensor = self.backbone(normalised.to(next(self.backbone.parameters()).dtype))
        # A float16 sum over a feature map loses digits, and TensorRT keeps the type that it gets.
        return maps.float().mean((2, 3))


class Probabilities(nn.Module):
    """What is deployed: a model whose outputs are float32 probabilities instead of logits.

    Args:
        model: its mode (training or evaluation) is left as it is.
        sigmoid: score every action on its own instead of one of all; scenes are always one of all.
    """

    def __init__(self, model: TSM, *, sigmoid: bool = False) -> None:
        super().__init__()
        self.model = model
        self.sigmoid = sigmoid

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Score clips (N, T, H, W, C): action scores (N, A) and, with a scene head, scene scores (N, S)."""
        return self.scores(*self.model(frames))

    def scores(self, action: Tensor, scene: Tensor | None) -> tuple[Tensor, ...]:
        """Turn the logits of `TSM.forward` into scores."""
        action_scores = action.float().sigmoid() if self.sigmoid else action.float().softmax(1)
        return (action_scores,) if scene is None else (action_scores, scene.float().softmax(1))


def _insert_shift(
    backbone: nn.Module, name: str, num_frames: int, fold_div: int, direction: ShiftDirection
) -> None:
    conv = backbone.get_submodule(name)
    if not isinstance(conv, nn.Conv2d):
        raise TypeError(f"{name}: only a torch.nn.Conv2d can be shifted, got {type(conv).__name__}")
    backbone.set_submodule(name, ShiftedConv2d.from_conv(conv, num_frames, fold_div, direction))


def _head(in_features: int, out_features: int) -> nn.Linear:
    """Make a linear layer that starts near zero, as the original's does (std 0.001)."""
    head = nn.Linear(in_features, out_features)
    nn.init.normal_(head.weight, std=0.001)
    nn.init.zeros_(head.bias)
    return head
