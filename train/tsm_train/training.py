"""`train`: open the data, build the model, hand both to Lightning."""

from __future__ import annotations

import ctypes
import logging
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import msgspec
import torch
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader

from tsm_runtime.errors import BackendError, RunError, VideoError
from tsm_runtime.segments import BACKGROUND
from tsm_runtime.terminal import warn
from tsm_train.checkpoint import build_model
from tsm_train.clip_data import ClipDataset, EpochSampler, Labels, stored_size
from tsm_train.config import Config
from tsm_train.data.opening import TrainingData, open_data
from tsm_train.data.video import TrainingVideo
from tsm_train.frame_cache import CachedVideo, cache_folder, cache_video
from tsm_train.pretrained import load_pretrained
from tsm_train.run_folder import RunFolder
from tsm_train.training_run import TrainingRun

__all__ = ["train"]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h

_PRECISION: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}

_REFRESHES_PER_SECOND = 4


def train(
    config: Config, folder: Path, *, device: str = "auto", show_progress: bool = True
) -> dict[str, float]:
    """Train a model and write its run folder.

    Args:
        config: the run.
        folder: gets best.safetensors, last.safetensors, config.json, labels.json and metrics.csv.
        device: `auto`, `cpu` or `cuda`.
        show_progress: draw progress bars where standard error is a terminal.

    Returns:
        The metrics of the best epoch.

    Raises:
        UsageError: the configuration or the annotations do not fit, or an annotated video is missing.
        BackendError: the asked device is not there.
        VideoError: no training video can be read.
        RunError: the loss is not finite, memory does not suffice, or files cannot be written.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise BackendError("--device cuda: PyTorch sees no CUDA device here; take --device cpu or auto")
    show_progress = show_progress and sys.stderr.isatty()
    _keep_freed_memory()
    lightning.seed_everything(config.train.seed, verbose=False)
    data = _open(config)
    config = msgspec.structs.replace(config, data=data.config)  # as it was found, for the export
    labels = Labels((*data.actions, BACKGROUND), data.scenes)
    model = build_model(config, labels)
    if config.model.pretrained:
        load_pretrained(model, config.model.pretrained)
    # Colours last in memory: 1.2 times as fast on a CPU, and what tensor cores want.
    model = model.to(memory_format=torch.channels_last)
    output = RunFolder(folder)
    videos = _decode(config, data.training, show_progress)
    loader = _training_loader(config, ClipDataset(videos, labels, config))
    output.describe(config, labels)
    _fit(TrainingRun(config, labels, model, data.validation, output), loader, device, show_progress)
    return output.best_metrics


def _keep_freed_memory() -> None:
    """Let glibc keep freed activations instead of giving them back and paying for new pages every step.

    Made training on a CPU 1.6 times as fast (efficientnet_lite0, 128 px, batches of 8, one thread).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 256 * 2**20)):
            mallopt(option, value)


def _open(config: Config) -> TrainingData:
    """Read and check the user's data: what can be wrong is told before hours of decoding and training."""
    data = open_data(config.data, config.clip.interval_seconds)
    for line in data.problems.summary():
        warn(line)
    unreadable = data.unreadable.get(data.config.training_subset, 0)
    if unreadable and not data.training:
        raise VideoError(f"none of the {unreadable} training videos can be read")
    if num_skipped := sum(data.unreadable.values()):
        warn(f"{num_skipped} of {num_skipped + len(data.videos)} videos are skipped")
    data.problems.raise_errors()
    return data


def _decode(
    config: Config, files: Sequence[TrainingVideo], show_progress: bool
) -> list[tuple[TrainingVideo, CachedVideo]]:
    """Open the stored frames of all videos. One that cannot be read is named and left out."""
    folder, size = cache_folder(config.data.cache), stored_size(config.clip.size)
    videos = []
    console = Console(stderr=True)
    for video in track(files, "decoding", transient=True, console=console, disable=not show_progress):
        try:
            videos.append((video, cache_video(video.path, folder, size, video.crop)))
        except VideoError as error:
            warn(f"left out: {error}")
    if not videos:
        raise VideoError(f"none of the {len(files)} training videos can be read")
    if len(videos) < len(files):
        warn(f"{len(files) - len(videos)} of {len(files)} training videos are left out")
    return videos


def _training_loader(config: Config, dataset: ClipDataset) -> DataLoader[Any]:
    t = config.train
    return DataLoader(
        dataset,
        batch_size=t.batch_size,
        sampler=EpochSampler(len(dataset), t.seed),
        drop_last=len(dataset) >= t.batch_size,  # a short last batch would give poor batch statistics
        num_workers=t.num_workers,
        persistent_workers=t.num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def _fit(run: TrainingRun, loader: DataLoader[Any], device: str, show_progress: bool) -> None:
    _quiet_lightning()
    bar = RichProgressBar(refresh_rate=_REFRESHES_PER_SECOND, console_kwargs={"stderr": True})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer = lightning.Trainer(
            max_epochs=run.config.train.epochs,
            accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[device],
            devices=1,
            precision=_PRECISION[run.config.train.precision],
            gradient_clip_val=run.config.train.clip_gradient or None,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=show_progress,
            callbacks=[bar] if show_progress else [],
        )
        try:
            trainer.fit(run, loader, range(run.num_validation_videos))
        except SystemExit as error:  # what Lightning makes of Ctrl-C, after it switched Ctrl-C off
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from error
        except torch.OutOfMemoryError as error:
            raise RunError(
                f"out of memory: lower train.batch_size (now {run.config.train.batch_size}), clip.size or"
                " clip.num_frames"
            ) from error


def _quiet_lightning() -> None:
    """Lightning's hints about loggers, hardware and its other products are not about the user's run."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("lightning"):
            logging.getLogger(name).setLevel(logging.ERROR)
