"""Rows of what follows the scores: smoothing, shortest duration, stride and window, and all of them.

Each is chosen on validation videos. Where these are also what is reported, each video gets the setting that
is best on all others, so that no video has a part in the choice that it is judged by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tsm_runtime._version import __version__
from tsm_runtime.bundle.manifest import sha256
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.errors import UsageError
from tsm_runtime.formats.detection_json import detections_to_json
from tsm_runtime.formats.result_file import ResultFile
from tsm_runtime.models.member import Member as RuntimeMember
from tsm_runtime.results import Segment
from tsm_train.ablation.config import PostProcessingConfig
from tsm_train.ablation.members import Member
from tsm_train.ablation.settings_grid import Judged, Setting, choose, choose_without, judge, settings_of
from tsm_train.ablation.stored_scores import score_videos
from tsm_train.ablation.videos import Footage, truth_of
from tsm_train.training.checkpoint import Checkpoint
from tsm_train.training.validation import TorchBackend

_SECONDS: Mapping[str, Callable[[Setting], float]] = {
    "window_seconds": lambda setting: setting.spec.window_seconds,
    "stride_seconds": lambda setting: setting.spec.stride_seconds,
    "smoothing_seconds": lambda setting: setting.rules.smoothing_seconds,
    "min_duration_seconds": lambda setting: setting.rules.min_duration_seconds,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenRow:
    """A row: segments of the reported videos.

    Args:
        name: of the member and of what was chosen.
        predictions: by video id.
        detail: each option's seconds, the distinct ones where videos have several, and what chose them.
    """

    name: str
    predictions: Mapping[str, Sequence[Segment]]
    detail: Mapping[str, object]

    def to_json(self) -> bytes:
        """Return the file of segments."""
        source = {"settings": self.detail, "versions": {"tsm-tal": __version__}}
        return detections_to_json(self.predictions, {}, source)


def choose_settings(
    member: Member,
    config: PostProcessingConfig,
    footage: Footage,
    files: Mapping[str, ResultFile],
    store: Path,
    *,
    device: torch.device,
) -> list[ChosenRow]:
    """Return the rows of a trained member: each option alone, and all together.

    Args:
        member: trained.
        config: the settings to be tried.
        footage: the videos; two or more for validation.
        files: what the member found, by subset; a video that is not there could not be read.
        store: folder of scores, which are made once.
        device: where the model runs.

    Raises:
        UsageError: there are too few videos, or they show different halves of a picture.
        VideoError: see `tuning.scoring.score_videos`, and so for RunError.
    """
    if len(footage.videos(footage.validation_subset)) < 2:
        raise UsageError(
            "[post_processing]: settings are chosen without the video they are judged on, which takes two or"
            " more validation videos; leave the section out"
        )
    checkpoint = member.checkpoint()
    specs = _specs(checkpoint, config, footage)
    runner = RuntimeMember(
        backend=TorchBackend(checkpoint.model().to(device), sigmoid=checkpoint.labels.head == "sigmoid"),
        spec=specs[0],
        action_labels=checkpoint.labels.actions,
        scene_labels=checkpoint.labels.scenes,
        rules=checkpoint.segment_rules,
    )
    grid = settings_of(
        specs,
        dict.fromkeys((0.0, *config.smoothing_seconds)),
        dict.fromkeys((0.0, *config.min_duration_seconds)),
        checkpoint.thresholds,
    )
    folder = store / sha256((member.folder / "best.safetensors").read_bytes())[:16]
    judged = {}
    for subset in footage.subsets:
        videos = footage.videos(subset)
        paths = {v.video_id: v.path for v in videos if v.video_id in files[subset].results}
        scores = score_videos(runner, paths, specs, store=folder)
        judged[subset] = [judge(s, scores, runner.action_labels, truth_of(videos)) for s in grid]
    return [
        _chosen(f"{member.name} + {name}", rows, judged, footage) for name, rows in _choices(grid).items()
    ]


def _specs(checkpoint: Checkpoint, config: PostProcessingConfig, footage: Footage) -> list[ClipSpec]:
    """Return the grids of intervals, the plain one first."""
    crops = {video.crop for subset in footage.subsets for video in footage.videos(subset)}
    if len(crops) > 1:
        raise UsageError('[post_processing]: takes videos of one eye; data.eyes = "left" or "right"')
    base = replace(checkpoint.config.clip_spec, window_seconds=0.0, stride_seconds=0.0, crop=crops.pop())
    t = base.interval_seconds
    return [
        replace(base, window_seconds=window * t, stride_seconds=t / parts)
        for window in dict.fromkeys((1.0, *config.windows))
        for parts in dict.fromkeys((1, *config.strides))
    ]


def _choices(grid: Sequence[Setting]) -> dict[str, list[int]]:
    """Return which settings are to choose from: those that use one option or none, for each, then all."""
    used = [
        frozenset(key for key, seconds in _SECONDS.items() if seconds(setting) != seconds(grid[0]))
        for setting in grid
    ]
    names = {
        "smoothing": "smoothing_seconds",
        "shortest duration": "min_duration_seconds",
        "stride": "stride_seconds",
        "window": "window_seconds",
    }
    choices = {
        name: [number for number, on in enumerate(used) if on <= {key}]
        for name, key in names.items()
        if {key} in used
    }
    return {**choices, "all of these": list(range(len(grid)))} if len(choices) > 1 else choices


def _chosen(
    name: str, rows: Sequence[int], judged: Mapping[str, Sequence[Judged]], footage: Footage
) -> ChosenRow:
    validation = [judged[footage.validation_subset][row] for row in rows]
    if footage.is_held_out:
        setting = choose(validation).setting
        found = next(one for one in judged[footage.reported_subset] if one.setting == setting)
        by = f"the videos of {footage.validation_subset!r}"
        return ChosenRow(name=name, predictions=found.predictions, detail=_described([setting], by))
    by_setting = {one.setting: one.predictions for one in validation}
    chosen, _ = choose_without(validation, truth_of(footage.videos(footage.validation_subset)))
    return ChosenRow(
        name=name,
        predictions={
            video: by_setting[setting][video]
            for video, setting in chosen.items()
            if video in by_setting[setting]
        },
        detail=_described(list(chosen.values()), "all other videos, for each video"),
    )


def _described(settings: Sequence[Setting], by: str) -> dict[str, object]:
    """Return the distinct seconds of each option, and what chose them."""
    distinct = {key: sorted({round(of(setting), 6) for setting in settings}) for key, of in _SECONDS.items()}
    return {**distinct, "by": by}
