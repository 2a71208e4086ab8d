"""Which samples an epoch shows, and in what order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from tsm_runtime.results import BACKGROUND
from tsm_train.sections.training import TrainConfig

Indices = npt.NDArray[np.int64]


class EpochSampler(Sampler[tuple[int, int]]):
    """Samples of an epoch in random order, as (epoch, index): chance depends on seed and epoch alone.

    Several processes share the batches: batch b of all of them together is batch b of one process alone.

    Args:
        classes: of each sample, `BACKGROUND` among them; what is balanced.
        config: seed, batch size (of all processes together), class balance, cap on background.
        rank, world_size: of this process, and how many there are.
    """

    def __init__(
        self, classes: Sequence[str], config: TrainConfig, *, rank: int = 0, world_size: int = 1
    ) -> None:
        self.epoch = 0
        self._config = config
        self._rank, self._world_size = rank, world_size
        self._classes = np.unique(np.array(classes), return_inverse=True)[1]
        is_background = np.array([name == BACKGROUND for name in classes], bool)
        self._actions, self._backgrounds = np.flatnonzero(~is_background), np.flatnonzero(is_background)
        ratio = config.background_ratio
        most = round(ratio * len(self._actions)) if ratio else len(classes)
        self._num_backgrounds = min(len(self._backgrounds), most)

    @property
    def num_samples(self) -> int:
        """Samples of an epoch, of all processes together."""
        count, size = len(self._actions) + self._num_backgrounds, self._config.batch_size
        if count >= size:
            return count - count % size  # a short last batch would give poor batch statistics
        return -(-count // self._world_size) * self._world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration; the training loop calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples // self._world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng((self._config.seed, self.epoch))
        pool = self._pool(rng)
        order = np.resize(
            pool[rng.permutation(len(pool))], self.num_samples
        )  # starts again where it is short
        return ((self.epoch, int(index)) for index in order[self._rank :: self._world_size])

    def _pool(self, rng: np.random.Generator) -> Indices:
        """Return the samples of an epoch; one may come several times."""
        pool = np.arange(len(self._classes))
        if self._num_backgrounds < len(self._backgrounds):
            chosen = rng.choice(self._backgrounds, self._num_backgrounds, replace=False)
            pool = np.sort(np.concatenate([self._actions, chosen]))
        if self._config.class_balance:
            pool = np.repeat(pool, balanced_counts(self._classes[pool], self._config.class_balance, rng))
        return pool


def balanced_counts(classes: Indices, balance: float, rng: np.random.Generator) -> Indices:
    """Return how often each sample is drawn so that a class of n samples is seen n^(1 - balance) times.

    Systematic sampling: each sample comes as often as it is expected to, rounded up or down, so that a class
    is never off by chance by more than one.

    Args:
        classes: (N,) of each sample, small integers.
        balance: 0 to 1.
        rng: where chance comes from.

    Returns:
        (N,) counts whose sum is N.
    """
    weights = np.bincount(classes)[classes].astype(float) ** -balance
    # In random order within a class, class after class: so each class as a whole is rounded just once.
    order = np.lexsort((rng.random(len(classes)), classes))
    reached = np.cumsum(weights[order]) * len(classes) / weights.sum()
    reached[-1] = len(classes)
    drawn = np.floor(reached + rng.random()).astype(np.int64)
    counts: Indices = np.empty_like(drawn)
    counts[order] = np.diff(drawn, prepend=0)
    return counts
