"""The sound branch: a small 2-D convolutional network over log-mel frames, joined with picture features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tsm_train.model.sound_features import sound_convolutions

_STD_FLOOR = 0.05


class SoundBranchNet(nn.Module):
    """Logits of an interval by what is seen, changed by what is heard.

    logits = picture heads(features) + is_heard * joint(features, sound). Where nothing is heard the logits
    are those of the picture model, exactly.

    Args:
        feature_dim: D, of the picture features.
        num_actions: A.
        num_scenes: S; 0: no scene head.
        channels: of the log-mel frames.
        num_bands: M.
        width: channels of the first convolution; the last has four times as many.
        hidden: units of the joint layer.
        dropout: before and after the joint layer.
        picture_dropout: share of the training intervals whose picture features the joint layer does not
            get, so that it learns to rely on sound alone.
    """

    mean: Tensor
    std: Tensor
    mel_mean: Tensor
    mel_std: Tensor
    heard_bias: Tensor

    def __init__(
        self,
        feature_dim: int,
        num_actions: int,
        num_scenes: int,
        *,
        channels: int,
        num_bands: int,
        width: int = 16,
        hidden: int = 128,
        dropout: float = 0.3,
        picture_dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.embedding_dim = 8 * width
        self.picture_dropout = picture_dropout
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("std", torch.ones(feature_dim))
        self.register_buffer("mel_mean", torch.zeros(channels, 1, num_bands))
        self.register_buffer("mel_std", torch.ones(channels, 1, num_bands))
        self.register_buffer("heard_bias", torch.zeros(num_actions + num_scenes))
        self.picture_head = nn.Linear(feature_dim, num_actions + num_scenes)
        self.sound = sound_convolutions(channels, width)
        self.joint = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(feature_dim + 8 * width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_actions + num_scenes),
        )
        for parameter in self.picture_head.parameters():
            parameter.requires_grad_(False)

    def forward(self, features: Tensor, log_mel: Tensor, is_heard: Tensor) -> tuple[Tensor, Tensor]:
        """Return action logits (N, A) and scene logits (N, S).

        Args:
            features: (N, D) means over the frames of intervals.
            log_mel: (N, C, F, M).
            is_heard: (N,) 1 or 0.
        """
        return self.logits(features, self.pooled(log_mel), is_heard)

    def pooled(self, log_mel: Tensor) -> Tensor:
        """Return what is heard, (N, 8 * width): mean and maximum of the convolutions over time and bands."""
        heard = self.sound((log_mel - self.mel_mean) / self.mel_std)
        return torch.cat([heard.mean((2, 3)), heard.amax((2, 3))], 1)

    def logits(self, features: Tensor, pooled: Tensor, is_heard: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of `forward` for what `pooled` returns."""
        seen = (features - self.mean) / self.std
        if self.training and self.picture_dropout:
            kept = torch.rand(len(seen), 1, device=seen.device) >= self.picture_dropout
            seen = seen * kept
        change = self.joint(torch.cat([seen, pooled], 1)) + self.heard_bias
        logits = self.picture_head(features) + is_heard[:, None] * change
        return logits[:, : self.num_actions], logits[:, self.num_actions :]


def new_branch(
    branch: SoundBranchNet,
    action_head: nn.Linear,
    scene_head: nn.Linear | None,
    features: Tensor,
    log_mel: Tensor,
) -> SoundBranchNet:
    """Give a branch the picture model's heads, and the mean and spread of its inputs.

    Args:
        branch: before training.
        action_head: of the picture model.
        scene_head: of the picture model; None: it has none.
        features: (N, D) of training intervals.
        log_mel: (N, C, F, M) of training intervals that are heard.
    """
    heads = [action_head] if scene_head is None else [action_head, scene_head]
    with torch.no_grad():
        branch.picture_head.weight.copy_(torch.cat([head.weight for head in heads]))
        branch.picture_head.bias.copy_(torch.cat([head.bias for head in heads]))
        branch.mean.copy_(features.mean(0))
        branch.std.copy_(features.std(0) + _STD_FLOOR)
        branch.mel_mean.copy_(log_mel.mean((0, 2), keepdim=False)[:, None])
        branch.mel_std.copy_(log_mel.std((0, 2))[:, None] + _STD_FLOOR)
        last = branch.joint[-1]
        assert isinstance(last, nn.Linear)
        last.weight.zero_()
        last.bias.zero_()
    return branch


class SoundProbabilities(nn.Module):
    """A branch whose outputs are probabilities, as it is exported."""

    def __init__(self, branch: SoundBranchNet, *, sigmoid: bool, has_scenes: bool) -> None:
        super().__init__()
        self.branch = branch
        self.sigmoid = sigmoid
        self.has_scenes = has_scenes

    def forward(self, features: Tensor, log_mel: Tensor, is_heard: Tensor) -> tuple[Tensor, ...]:
        """Return action scores (N, A), scene scores (N, S) of a model with scenes, and the embedding (N, E).

        The embedding is what is heard, zeros where nothing is; a temporal head joins it with the features.
        """
        pooled = self.branch.pooled(log_mel)
        actions, scenes = self.branch.logits(features, pooled, is_heard)
        scores = actions.sigmoid() if self.sigmoid else actions.softmax(1)
        embedding = is_heard[:, None] * pooled
        return (scores, scenes.softmax(1), embedding) if self.has_scenes else (scores, embedding)
