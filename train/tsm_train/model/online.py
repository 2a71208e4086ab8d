"""One frame at a time: a model with shift from the past, and what it keeps of earlier frames, made explicit.

In a clip-wise model with `shift_direction="past"` a frame sees earlier frames only, through the channels that
the shifted convolutions take from the frame before. Keeping just those channels, and the sum of the pooled
features, gives after the i-th frame of a clip what the clip-wise model gives for its first i frames (TSM,
arXiv 1811.08383, 4.2), at the cost of one frame.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tsm_train.model.shift import ShiftedConv2d
from tsm_train.model.tsm import TSM, Probabilities


class OnlineTSM(nn.Module):
    """A trained model as a step: one frame of each clip and the states in, scores so far and new states out.

    A clip begins with states of zeros. N clips go side by side, each at a frame of its own.

    Args:
        model: shares its weights with the step and is left as it is, its mode included.
        sigmoid: see `model.Probabilities`.

    Raises:
        ValueError: a frame of this model sees later ones.
    """

    def __init__(self, model: TSM, *, sigmoid: bool = False) -> None:
        super().__init__()
        weights = [*model.parameters(), *model.buffers()]
        step = copy.deepcopy(model, {id(weight): weight for weight in weights})
        self._memory = _Memory()
        for name, module in list(step.backbone.named_modules()):
            if isinstance(module, ShiftedConv2d):
                if module.direction != "past":
                    raise ValueError(f"{name} sees later frames (direction {module.direction!r})")
                step.backbone.set_submodule(name, _StepConv(module, self._memory))
        self.probabilities = Probabilities(step, sigmoid=sigmoid)

    def forward(self, frame: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Take one frame of each clip.

        Args:
            frame: (N, H, W, 3) RGB in 0..255, uint8 or floating point.
            *states: as the step before returned them; at the begin of a clip zeros of `state_shapes`.

        Returns:
            Action scores (N, A) and, with a scene head, scene scores (N, S), both of the clip up to this
            frame; then the states, in the order of `state_shapes`.
        """
        feature_sum, count, *kept = states
        model = self.probabilities.model
        self._memory.open(kept)
        feature_sum = feature_sum + model.picture_features(frame)
        count = count + 1
        scores = self.probabilities.scores(*model.classify(feature_sum / count))
        return (*scores, feature_sum, count, *self._memory.close())

    def state_shapes(self, size: int) -> dict[str, tuple[int, ...]]:
        """Names of the states and their shapes for one clip (without N) of `size` x `size` pictures.

        `feature_sum` (feature_dim) and `count` (1) make the mean over the frames; `state_0`, `state_1`, ...
        (f, h, w) are what each shifted convolution keeps of the frame, f = C // fold_div.
        """
        model = self.probabilities.model
        weight = model.action_head.weight
        self._memory.open(None)
        with torch.no_grad():
            model.picture_features(torch.zeros((1, size, size, 3), device=weight.device))
        kept = self._memory.close()
        shapes = {f"state_{i}": tuple(state.shape[1:]) for i, state in enumerate(kept)}
        return {"feature_sum": (model.feature_dim,), "count": (1,)} | shapes

    def initial_states(self, num_clips: int, size: int) -> tuple[Tensor, ...]:
        """Return the states of `num_clips` clips that begin."""
        device = self.probabilities.model.action_head.weight.device
        shapes = self.state_shapes(size).values()
        return tuple(torch.zeros((num_clips, *shape), device=device) for shape in shapes)


class _Memory:
    """Hands each convolution, in the order in which they run, what it kept of the frame before.

    No module, and no attribute that is a list of tensors: torch.export refuses those when they change.
    """

    def open(self, previous: Sequence[Tensor] | None) -> None:
        """Begin a frame; None: there is none before it."""
        self._previous = None if previous is None else iter(previous)
        self._kept: list[Tensor] = []

    def exchange(self, present: Tensor) -> Tensor:
        self._kept.append(present)
        return torch.zeros_like(present) if self._previous is None else next(self._previous)

    def close(self) -> tuple[Tensor, ...]:
        kept, self._kept = self._kept, []
        return tuple(kept)


class _StepConv(nn.Module):
    """A shifted convolution on single frames: its first channels come from the memory, and go there."""

    def __init__(self, conv: ShiftedConv2d, memory: _Memory) -> None:
        super().__init__()
        self.conv = conv
        self.memory = memory

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.fold:
            present, still = torch.split(x, [self.conv.fold, x.shape[1] - self.conv.fold], 1)
            x = torch.cat([self.memory.exchange(present), still], 1)
        return nn.Conv2d.forward(self.conv, x)  # without the shift over a clip's frames
