"""What an ablation would train: `--dry-run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from tsm_runtime.results import BACKGROUND
from tsm_runtime.wording import counted
from tsm_train.ablation.config import Ablation
from tsm_train.ablation.members import Member, check_members, members_of, task_of
from tsm_train.ablation.videos import Footage, open_footage
from tsm_train.config import Config
from tsm_train.data.dataset import TrainingData
from tsm_train.data.inspection import SubsetCount, inspect_data
from tsm_train.data.inspection_text import columns
from tsm_train.model.backbones import build_backbone
from tsm_train.samples.sampling import EpochSampler


def clips_per_epoch(config: Config, data: TrainingData) -> int:
    """Return how many clips an epoch shows, by the lengths that the videos' containers claim."""
    training = _subset(data, data.config.training_subset, config.clip.interval_seconds)
    actions = training.intervals - training.background_intervals
    classes = ["action"] * actions + [BACKGROUND] * training.background_intervals
    return EpochSampler(classes, config.train).num_samples


def _subset(data: TrainingData, name: str, interval_seconds: float) -> SubsetCount:
    counts = inspect_data(data, interval_seconds).subsets
    return next(count for count in counts if count.subset == name)


def describe_plan(ablation: Ablation, folder: Path, only: Sequence[str] = ()) -> str:
    """Describe the data, the members, how far each is, and how long the rest would take; train nothing.

    The time is known for backbones that the file gives clips per second of, and for members like one that has
    been trained here, if only for an epoch.

    Raises:
        UsageError: what training would refuse too.
    """
    for name in only:
        ablation.check_member(name, "--only")
    footage = open_footage(ablation)
    members = members_of(ablation, folder)
    check_members(members, footage.finest)
    for config in ablation.members.values():
        with torch.device("meta"):  # shapes alone: whether there is such a network
            build_backbone(config.model.backbone, width_mult=config.model.width_mult)
    lines = [*_videos(footage), "", *_intervals(footage), ""]
    return "\n".join([*lines, *_members(ablation, footage, members, only)]) + "\n"


def _videos(footage: Footage) -> list[str]:
    data = footage.finest
    used = dict.fromkeys((data.config.training_subset, *footage.subsets))
    counts = [_subset(data, name, min(footage.by_interval)) for name in used]
    rows = [(c.subset, c.videos, c.seconds, c.labelled_seconds, c.instances) for c in counts]
    lines = columns(("subset", "videos", "seconds", "labelled s", "instances"), rows)
    lines.append(f"scenes: {', '.join(data.scenes) or 'none'}; reported on: {footage.reported_subset}")
    problems = {line for opened in footage.by_interval.values() for line in opened.problems.summary()}
    return [*lines, *sorted(problems)]


def _intervals(footage: Footage) -> list[str]:
    """Training intervals of each label, a column for each interval length."""
    counts = {}
    for t, data in sorted(footage.by_interval.items()):
        subset = _subset(data, data.config.training_subset, t)
        counts[t] = {entry.label: entry.intervals for entry in subset.classes}
        counts[t][BACKGROUND] = subset.background_intervals
    header = ("training intervals", *(f"t={t:g} s" for t in counts))
    labels = (*footage.finest.actions, BACKGROUND)
    return columns(header, [(label, *(found.get(label, 0) for found in counts.values())) for label in labels])


def _members(
    ablation: Ablation, footage: Footage, members: Sequence[Member], only: Sequence[str]
) -> list[str]:
    rows, total, unknown = [], 0.0, 0
    for member in members:
        config = member.config
        data = footage.by_interval[config.clip.interval_seconds]
        clips = clips_per_epoch(config, data)
        left = 0 if member.is_finished else max(0, config.train.epochs - member.epochs)
        left = left if not only or member.name in only else 0
        speed = _clips_per_second(ablation, footage, members, config)
        minutes = clips * left / speed / 60 if speed else None
        total, unknown = total + (minutes or 0.0), unknown + (minutes is None and left > 0)
        rows.append(
            (
                member.name,
                task_of(config, data),
                config.model.backbone,
                f"{config.clip.interval_seconds:g}",
                "yes" if config.model.shift else "no",
                _progress(member),
                clips,
                clips * left,
                "?" if minutes is None else minutes,
            )
        )
    header = ("member", "task", "backbone", "t", "shift", "epochs", "clips/epoch", "clips left", "minutes")
    total_text = f"{counted(round(total), 'minute')} of training" if unknown < len(rows) else "time unknown"
    if 0 < unknown < len(rows):
        total_text += f", and {counted(unknown, 'member')} of unknown time"
    return [*columns(header, rows, num_texts=6), f"would train: {total_text}"]


def _progress(member: Member) -> str:
    epochs = member.config.train.epochs
    return f"{epochs}, done" if member.is_finished else f"{member.epochs} of {epochs}"


def _clips_per_second(
    ablation: Ablation, footage: Footage, members: Sequence[Member], config: Config
) -> float | None:
    """Median speed of the members with the same work per clip that were trained here, else the file's."""
    speeds = []
    for member in members:
        same = member.config.model.backbone, member.config.model.width_mult, member.config.clip.size
        wanted = config.model.backbone, config.model.width_mult, config.clip.size
        if same != wanted or member.config.clip.num_frames != config.clip.num_frames:
            continue
        if member.seconds:
            data = footage.by_interval[member.config.clip.interval_seconds]
            speeds.append(clips_per_epoch(member.config, data) * member.epochs / member.seconds)
    return median(speeds) if speeds else ablation.clips_per_second.get(config.model.backbone)
