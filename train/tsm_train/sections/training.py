"""The sections `[train]`, `[augment]` and `[store]`: how the network is trained, and on which frames."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tsm_runtime.wording import counted
from tsm_train.sections.values import Count, NotNegative, Positive, Section, Share


class TrainConfig(Section, frozen=True):
    """SGD and its schedule. The paper states SGD and the learning rate 0.001; the rest is our choice."""

    epochs: Count = 20
    batch_size: Count = 16
    """Clips of a step, of all processes together: the same run on one GPU and on several."""
    learning_rate: Positive = 0.001
    momentum: Share = 0.9
    weight_decay: NotNegative = 1e-4
    warmup_epochs: NotNegative = 1.0
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    step_epochs: tuple[Positive, ...] = ()
    """Of the schedule `step`: epochs trained when the learning rate is multiplied by `step_factor`."""
    step_factor: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.1
    clip_gradient: NotNegative = 20.0
    """Largest norm of the gradient; 0: not clipped."""
    scene_loss_weight: NotNegative = 0.5
    """The loss is that of the actions + this * that of the scenes; a video without scene adds to the first
    alone."""
    frame_loss: NotNegative = 0.0
    """Weight of the per-frame action loss beside that of the clips; 0: none, as in the paper. A frame's label
    is that of its T-th of the clip's window, by coverage."""
    frame_tolerance_seconds: NotNegative = 0.05
    """Frames whose middle is nearer to the start or end of an action do not count in the per-frame loss."""
    label_smoothing: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """Share of each action target that is spread evenly over all outputs (arXiv 1512.00567, 7)."""
    focal_gamma: NotNegative = 0.0
    """Each action loss is multiplied by (1 - p)^this, p the probability of the truth: what is easy counts
    less (focal loss, arXiv 1708.02002, 3.2); 0: all count alike."""
    hard_background: Share = 0.0
    """Share of the background clips of a batch that count in the action loss, those with the highest loss
    (hard negatives, arXiv 1604.03540, 4); 0: all count."""
    logit_adjustment: NotNegative = 0.0
    """In training this * log(share of the class among the intervals) is added to the logits of a softmax
    head, so that rare classes win by more (arXiv 2007.07314, 3); 0: not."""
    mixup: NotNegative = 0.0
    """Clips of a batch are mixed in pairs, a : 1 - a with a from Beta(this, this), and so are their losses
    (arXiv 1710.09412); 0: not."""
    freeze_bn: Literal["none", "partial", "all"] = "none"
    """Batch norms that keep statistics and weights: `partial` is all but the first, as in TSN and TSM."""
    ema: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """Decay per step of an average of the weights, which is then what is validated and stored; 0: none."""
    class_balance: Share = 0.0
    """A class of n intervals is shown n^(1 - this) times, relatively: 0 as they are, 1 all equally."""
    background_ratio: NotNegative = 0.0
    """Most background intervals of an epoch, relative to those with action; 0: all there are."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """bf16 and fp16 are mixed precision."""
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0
    num_workers: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Loading processes on each GPU, and videos decoded at a time."""
    validate_every: Count = 1
    """Epochs between validations; the last epoch is always validated."""

    def __post_init__(self) -> None:
        if (self.schedule == "step") != bool(self.step_epochs):
            raise ValueError("schedule 'step' and step_epochs, as [10, 15], go together")
        if list(self.step_epochs) != sorted(set(self.step_epochs)):
            raise ValueError(f"step_epochs must increase, got {list(self.step_epochs)}")
        if self.step_epochs and self.step_epochs[-1] >= self.epochs:
            raise ValueError(
                f"step_epochs {list(self.step_epochs)}: the run has {counted(self.epochs, 'epoch')}"
            )


class AugmentConfig(Section, frozen=True):
    """Changes of a training clip, equal for its T frames."""

    flip: Share = 0.5
    """Probability of a mirrored clip."""
    crop_scale: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.7
    """Smallest share of the picture's area that a random crop keeps; 1: no crop."""
    color: Share = 0.2
    """Largest relative change of brightness, contrast and saturation."""
    time_jitter: Share = 0.5
    """Largest move of an interval, in intervals; its label moves along."""
    frame_jitter: Share = 0.0
    """Each frame's largest move within its T-th of the window, in halves of it: 1 is TSN's sampling."""
    flip_pairs: tuple[tuple[str, str], ...] = ()
    """Labels that a mirrored clip exchanges, as [["turning left", "turning right"]]."""
    never_flip: tuple[str, ...] = ()
    """Labels whose clips are never mirrored."""

    def __post_init__(self) -> None:
        named = [label for pair in self.flip_pairs for label in pair] + list(self.never_flip)
        if twice := sorted({label for label in named if named.count(label) > 1}):
            raise ValueError(f"flip_pairs and never_flip name a label twice: {', '.join(twice)}")


class StoreConfig(Section, frozen=True):
    """Frames that are decoded once and kept in `data.cache`."""

    format: Literal["raw", "jpeg"] = "raw"
    """`raw` is exact; `jpeg` takes about a tenth of the space and is what large data sets need."""
    quality: Annotated[int, msgspec.Meta(ge=50, le=100)] = 90
    """Of JPEG."""
    size: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Edge of the stored pictures in pixels; 0: an eighth more than `clip.size`, as room for crops."""
