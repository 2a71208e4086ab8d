"""Members of an ablation: how far each is, training what is missing, and running them on videos."""

from __future__ import annotations

import csv
import io
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch

from tsm_runtime._version import __version__
from tsm_runtime.bundle.manifest import sha256
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.files import read_text, write_whole
from tsm_runtime.formats.detection_json import results_to_json
from tsm_runtime.formats.result_file import ResultFile
from tsm_runtime.fusion.member_file import read_member
from tsm_train.ablation.config import Ablation
from tsm_train.config import Config
from tsm_train.data.dataset import TrainingData, resolve_section
from tsm_train.data.video import TrainingVideo
from tsm_train.samples.clips import Labels
from tsm_train.training.checkpoint import Checkpoint, load_checkpoint
from tsm_train.training.run_folder import RESUME, begun_config, check_same_config
from tsm_train.training.validation import predict

_log = logging.getLogger("tsm_runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A row of the table that is trained, and its run folder."""

    name: str
    config: Config
    folder: Path

    @property
    def epochs(self) -> int:
        """Epochs trained so far."""
        return len(self._rows())

    @property
    def seconds(self) -> float:
        """How long they took, validation included."""
        rows = self._rows()
        return float(rows[-1]["seconds"]) if rows else 0.0

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to train."""
        is_over = not (self.folder / RESUME).exists() and (self.folder / "last.safetensors").exists()
        return is_over and self.epochs >= self.config.train.epochs

    def checkpoint(self) -> Checkpoint:
        """Return the best epoch.

        Raises:
            UsageError: there is none, or it is damaged.
        """
        return load_checkpoint(self.folder / "best.safetensors")

    def _rows(self) -> list[dict[str, str]]:
        path = self.folder / "metrics.csv"
        return list(csv.DictReader(io.StringIO(read_text(path)))) if path.exists() else []


def members_of(ablation: Ablation, folder: Path) -> tuple[Member, ...]:
    """Return the members with their run folders in `folder`.

    Raises:
        UsageError: the data are not where the configuration says.
    """
    return tuple(
        Member(
            name=name,
            config=msgspec.structs.replace(config, data=resolve_section(config.data)),
            folder=folder / "members" / name,
        )
        for name, config in ablation.members.items()
    )


def check_members(members: Sequence[Member], data: TrainingData) -> None:
    """Find before hours of training that a member was begun with another configuration or other labels.

    Raises:
        UsageError: names the run's folder and the keys that differ.
    """
    for member in members:
        begun = begun_config(member.folder)
        if begun is None:
            continue
        check_same_config(member.folder, begun, member.config)
        if member.is_finished:
            found, now = member.checkpoint().labels, Labels.of(data.actions, data.scenes, member.config.model)
            if found != now:
                raise UsageError(
                    f"{member.folder}: was trained with other labels than the annotations have now; begin it"
                    f" again with --only {member.name} --force"
                )


def task_of(config: Config, data: TrainingData) -> str:
    """`multi` where actions and scenes are learnt, else `single`."""
    return "multi" if config.model.scene_head and data.scenes else "single"


def train_member(member: Member, *, device: str, force: bool = False) -> None:
    """Train a member, or what is left of it; a finished one stays as it is.

    Raises:
        UsageError: see `training.train`, and so for the other errors.
    """
    from tsm_train.training.train import train

    train(member.config, member.folder, device=device, resume=not force)


def run_member(
    member: Member, videos: Sequence[TrainingVideo], path: Path, *, device: torch.device
) -> ResultFile:
    """Run a member's best epoch on videos and write the segments, unless they are there already.

    Args:
        member: trained.
        videos: to run on.
        path: file of the segments.
        device: where the model runs.

    Raises:
        UsageError: the checkpoint cannot be read.
        VideoError: not one video can be read.
        RunError: the model's scores are not finite, or the file cannot be written.
    """
    best = member.folder / "best.safetensors"
    digest = sha256(best.read_bytes())
    if not _is_of(path, digest, videos):
        _run(member, digest, videos, path, device)
    return read_member(path)


def _run(
    member: Member, digest: str, videos: Sequence[TrainingVideo], path: Path, device: torch.device
) -> None:
    checkpoint = member.checkpoint()
    model = checkpoint.model().to(device)
    results, failed = [], []
    began = time.perf_counter()
    for video in videos:
        spec = replace(checkpoint.config.clip_spec, crop=video.crop)
        try:
            result = predict(
                model,
                video.path,
                video.video_id,
                checkpoint.labels,
                spec,
                checkpoint.segment_rules,
                video.rate,
            )
        except VideoError as error:
            _log.warning(f"{member.name}: counts this video as one where nothing is found: {error}")
            failed.append(video.video_id)
        else:
            results.append(result)
    seconds = time.perf_counter() - began
    if not results:
        raise VideoError(f"{member.name}: no video of {len(videos)} can be read")
    source: dict[str, object] = {
        "run": {"name": member.name, "epoch": checkpoint.epoch, "checkpoint_sha256": digest},
        "asked": [video.video_id for video in videos],
        "failed": failed,
        "clips_per_second": round(sum(result.num_intervals for result in results) / seconds, 3),
        "versions": {"tsm-tal": __version__},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, results_to_json(results, source))


def _is_of(path: Path, digest: str, videos: Sequence[TrainingVideo]) -> bool:
    """Return whether a file holds the results of this checkpoint for these videos."""
    try:
        source = json.loads(path.read_bytes())["external_data"]
        requested = [video.video_id for video in videos]
        return bool(source["run"]["checkpoint_sha256"] == digest and source["asked"] == requested)
    except (OSError, ValueError, LookupError, TypeError):
        return False
