"""A network that joins the features of the views of a moment, however many there are."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

STD_FLOOR = 0.05
"""Added to the spread of a feature, so that one that hardly varies is not blown up."""

_FAR_BELOW = -1e4
"""Attention of a view that is not there."""

Join = Literal["mean", "attention"]


class ViewJoinNet(nn.Module):
    """Logits of a moment by its views.

    logits = picture heads(pooled) + joint(pooled, largest): `pooled` is the mean of the views' features,
    weighted by attention (softmax over the views that are there), and `largest` their maximum. Before
    training attention is even and `joint` zero: the picture model on the mean of the views. The order of
    views does not matter.

    Args:
        feature_dim: D, of the picture features.
        num_actions: A.
        num_scenes: S; 0: no scene head.
        join: `mean` leaves all weights even.
        hidden: units of the layers.
        dropout: before and after the hidden layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        feature_dim: int,
        num_actions: int,
        num_scenes: int,
        *,
        join: Join,
        hidden: int = 128,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.join = join
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("std", torch.ones(feature_dim))
        outputs = num_actions + num_scenes
        self.picture_head = nn.Linear(feature_dim, outputs)
        self.attention = nn.Sequential(nn.Linear(feature_dim, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.joint = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(2 * feature_dim, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, outputs),
        )
        for last in (self.attention[-1], self.joint[-1]):
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        for parameter in self.picture_head.parameters():
            parameter.requires_grad_(False)
        if join == "mean":
            for parameter in self.attention.parameters():
                parameter.requires_grad_(False)

    def forward(self, features: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return action logits (N, A) and scene logits (N, S).

        Args:
            features: (N, V, D) means over the frames of an interval of each view.
            present: (N, V) 1 where a view is there, at least one of a moment, else 0.
        """
        seen = (features - self.mean) / self.std
        scores = self.attention(seen)[..., 0] + (1 - present) * _FAR_BELOW
        weights = scores.softmax(1)[..., None]
        pooled = (weights * features).sum(1)
        largest = (seen + ((1 - present) * _FAR_BELOW)[..., None]).amax(1)
        change = self.joint(torch.cat([(pooled - self.mean) / self.std, largest], 1))
        logits = self.picture_head(pooled) + change
        return logits[:, : self.num_actions], logits[:, self.num_actions :]


class ViewProbabilities(nn.Module):
    """A network whose outputs are probabilities, as it is exported."""

    def __init__(self, network: ViewJoinNet, *, sigmoid: bool, has_scenes: bool) -> None:
        super().__init__()
        self.network = network
        self.sigmoid = sigmoid
        self.has_scenes = has_scenes

    def forward(self, features: Tensor, present: Tensor) -> tuple[Tensor, ...]:
        """Return action scores (N, A) and, of a model with scenes, scene scores (N, S)."""
        actions, scenes = self.network(features, present)
        scores = actions.sigmoid() if self.sigmoid else actions.softmax(1)
        return (scores, scenes.softmax(1)) if self.has_scenes else (scores,)
