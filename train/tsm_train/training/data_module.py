"""What Lightning loads: clips for training, numbers of videos for validation."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from tsm_train.config import Config
from tsm_train.data.video import TrainingVideo
from tsm_train.samples.clips import ClipDataset, Labels
from tsm_train.samples.frame_store import FrameStore
from tsm_train.samples.sampling import EpochSampler
from tsm_train.samples.store_videos import open_stored, store_videos
from tsm_train.training.module import NO_VIDEO

_log = logging.getLogger("tsm_runtime")


class ClipModule(lightning.LightningDataModule):
    """Frames are stored by one process of each machine, then opened by all.

    Args:
        config: the run.
        labels: names of the outputs.
        videos: to learn from.
        num_validation: how many videos a validation runs.
        show_progress: draw a bar while decoding.
    """

    def __init__(
        self,
        config: Config,
        labels: Labels,
        videos: Sequence[TrainingVideo],
        num_validation: int,
        show_progress: bool,
    ) -> None:
        super().__init__()
        self._config = config
        self._labels = labels
        self._videos = videos
        self._num_validation = num_validation
        self._show_progress = show_progress
        self._store = FrameStore.of(config)
        self._dataset: ClipDataset | None = None

    def prepare_data(self) -> None:
        """Decode what is not stored yet."""
        threads = max(1, self._config.train.num_workers)
        store_videos(self._store, self._videos, num_threads=threads, show_progress=self._show_progress)

    def setup(self, stage: str) -> None:
        """Open the stored frames."""
        if self._dataset is not None:
            return
        stored = open_stored(self._store, self._videos)
        if len(stored) < len(self._videos) and self._trainer.is_global_zero:
            _log.warning(
                f"{len(self._videos) - len(stored)} of {len(self._videos)} training videos are left out"
            )
        self._dataset = ClipDataset(stored, self._labels, self._config)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return this process's part of each batch."""
        assert self._dataset is not None  # Lightning has called setup
        t, trainer = self._config.train, self._trainer
        return DataLoader(
            self._dataset,
            batch_size=t.batch_size // trainer.world_size,
            sampler=EpochSampler(
                self._dataset.classes(), t, rank=trainer.global_rank, world_size=trainer.world_size
            ),
            num_workers=t.num_workers,
            persistent_workers=t.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # its seeds for workers must not use up the network's chance
        )

    def class_shares(self) -> torch.Tensor:
        """Return the share (A,) of each action label among the training intervals; none is below 1e-4."""
        assert self._dataset is not None  # Lightning has called setup
        count = Counter(self._dataset.classes())
        shares = torch.tensor([float(count[label]) for label in self._labels.actions])
        return (shares / shares.sum()).clamp(min=1e-4)

    def val_dataloader(self) -> list[int]:
        """Return the numbers of the validation videos that this process runs.

        All processes get equally many, filled up with `NO_VIDEO`: one with more would wait for ever.
        """
        count, world_size = self._num_validation, self._trainer.world_size
        mine = range(self._trainer.global_rank, -(-count // world_size) * world_size, world_size)
        return [number if number < count else NO_VIDEO for number in mine]

    @property
    def _trainer(self) -> lightning.Trainer:
        assert self.trainer is not None  # Lightning has attached it
        return self.trainer
