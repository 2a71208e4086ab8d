"""The bar of an epoch counts as the log does, and shows nothing of the logger."""

from __future__ import annotations

from pathlib import Path

import lightning
from lightning.pytorch.loggers import TensorBoardLogger

from tsm_train.training.epoch_bar import EpochBar


def test_epochs_count_from_one_and_numbers_are_those_of_training(tmp_path: Path) -> None:
    bar = EpochBar()
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=TensorBoardLogger(tmp_path, name="", version="tensorboard"),
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[bar],
    )
    bar.setup(trainer, lightning.LightningModule(), "fit")
    assert [bar._get_train_description(epoch) for epoch in (0, 2)] == ["epoch 1/3", "epoch 3/3"]
    assert bar.get_metrics(trainer, lightning.LightningModule()) == {}
