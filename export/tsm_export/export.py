"""Checkpoint to bundle: export, compare, build, describe, write whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime
import torch

from tsm_export.head_files import find_head, head_files, with_head
from tsm_export.model_card import MODEL_CARD, model_card
from tsm_export.onnx_models import onnx_files
from tsm_export.plans import NewPlan, plan_libraries, plans
from tsm_export.request import ExportRequest
from tsm_export.sound_files import find_sound, sound_file, with_sound
from tsm_export.views_files import find_views, views_file, with_views
from tsm_runtime._version import __version__
from tsm_runtime.bundle.bundle import CLIP_MODEL
from tsm_runtime.bundle.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    PICTURES_VERSION,
    Manifest,
    ModelFile,
    encode_manifest,
    sha256,
)
from tsm_runtime.errors import CheckError, RunError, TsmError, UsageError
from tsm_runtime.files import whole_folder
from tsm_runtime.models.sound_branch import SOUND_MODEL
from tsm_runtime.models.view_join import VIEWS_MODEL
from tsm_train.config import Config
from tsm_train.training.checkpoint import Checkpoint, load_checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A bundle that was written.

    Args:
        manifest: of the bundle.
        problems: an error for each requested plan that is not in it.
        warnings: one line each.
    """

    manifest: Manifest
    problems: tuple[TsmError, ...] = ()
    warnings: tuple[str, ...] = ()


def newest_checkpoint(runs: Path = Path("runs")) -> Path:
    """Return the newest `runs/*/best.safetensors`.

    Raises:
        UsageError: there is none.
    """
    found = sorted(runs.glob("*/best.safetensors"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UsageError(
            f"no checkpoint given and none in {runs}/*/best.safetensors; train one with tsm-train"
        )
    return found[-1]


def export_bundle(checkpoint_path: Path, bundle: Path, request: ExportRequest | None = None) -> Exported:
    """Write a bundle; an existing one is replaced once the new one is complete.

    A plan that cannot be built or stored does not cost the ONNX files: the bundle is written without it, and
    its error is returned.

    Args:
        checkpoint_path: what to export.
        bundle: the folder to write.
        request: what to write; default: `model.fp32.onnx`, `model.fp16.onnx`, a plan where TensorRT is.

    Raises:
        UsageError: no such checkpoint, or `bundle` is a folder that holds something else.
        CheckError: the scores of an exported graph differ from those of the checkpoint.
        RunError: the bundle cannot be written.
    """
    request = request or ExportRequest()
    checkpoint = load_checkpoint(checkpoint_path)
    try:
        with whole_folder(bundle, marker=MANIFEST) as folder:
            return _write(checkpoint, checkpoint_path, folder, request)
    except CheckError as error:
        raise CheckError(f"{error}; nothing was written") from error


def _write(checkpoint: Checkpoint, path: Path, folder: Path, request: ExportRequest) -> Exported:
    """Write the files of a bundle into an empty folder."""
    libraries = plan_libraries(request)
    sound = find_sound(checkpoint, path, request)
    head = find_head(checkpoint, path, request, sound)
    views = find_views(checkpoint, path, request)
    models, warnings = onnx_files(checkpoint, request, for_plans=bool(libraries))
    described = None
    if head is not None:
        clips = models[CLIP_MODEL][1].sha256
        described = head_files(head, request, clips, with_sound=sound is not None)
        models |= described.files
    if sound is not None:
        models[SOUND_MODEL] = sound_file(sound, request)
    if views is not None:
        models[VIEWS_MODEL] = views_file(views, request)
    files = {name: file for name, (_, file) in models.items()}
    for name, (data, _) in models.items():
        (folder / name).write_bytes(data)
    problems: list[TsmError] = []
    for plan in plans(models, request, libraries):
        problem = plan.problem or _store(folder, plan)
        if problem is not None:
            problems.append(problem)
        elif plan.built is not None and plan.file is not None:
            files[plan.name] = plan.file
            warnings += [f"{plan.name}: {line}" for line in plan.built.warnings]
    manifest = _describe(checkpoint, path, files, frame_outputs=request.frame_outputs)
    if described is not None:
        manifest = with_head(manifest, described)
    if sound is not None:
        manifest = with_sound(manifest, sound, models[CLIP_MODEL][1].sha256)
    if views is not None:
        manifest = with_views(manifest, views, models[CLIP_MODEL][1].sha256)
    (folder / MANIFEST).write_bytes(encode_manifest(manifest))
    (folder / MODEL_CARD).write_text(model_card(manifest), encoding="utf-8")
    return Exported(manifest=manifest, problems=tuple(problems), warnings=tuple(warnings))


def _store(folder: Path, plan: NewPlan) -> RunError | None:
    """Write a plan; one that does not fit on the disk is removed."""
    assert plan.built is not None  # otherwise it has a problem
    try:
        (folder / plan.name).write_bytes(plan.built.plan)
    except OSError as error:
        (folder / plan.name).unlink(missing_ok=True)
        return RunError(f"cannot write {plan.name}: {error.strerror or error}")
    return None


def _format_version(config: Config) -> int:
    """Return the lowest version of a bundle that has what the run has, so that earlier programs read it."""
    is_new = config.sound_alone is not None or config.clip.projection == "perspective"
    return FORMAT_VERSION if is_new else PICTURES_VERSION


def _describe(
    checkpoint: Checkpoint, path: Path, files: dict[str, ModelFile], *, frame_outputs: bool
) -> Manifest:
    config, labels = checkpoint.config, set(checkpoint.labels.actions)
    return Manifest(
        format_version=_format_version(config),
        action_labels=checkpoint.labels.actions,
        scene_labels=checkpoint.labels.scenes,
        head=checkpoint.labels.head,
        thresholds=checkpoint.thresholds,
        interval_seconds=config.clip.interval_seconds,
        num_frames=config.clip.num_frames,
        size=config.clip_spec.size,
        view=",".join(config.data.views) if config.data.format == "x360" else "",
        crop=config.clip_spec.crop if config.sound_alone else config.data.crop,
        sound_input=config.sound_alone,
        projection=config.clip.projection,
        flip_pairs=tuple(pair for pair in config.augment.flip_pairs if labels.issuperset(pair)),
        never_flip=tuple(label for label in config.augment.never_flip if label in labels),
        window_seconds=config.clip.window_seconds,
        stride_seconds=config.segments.stride_seconds,
        smoothing_seconds=config.segments.smoothing_seconds,
        min_duration_seconds=config.segments.min_duration_seconds,
        feature_dim=checkpoint.model().feature_dim if frame_outputs else 0,
        backbone=config.model.backbone,
        shift=config.model.shift,
        shift_direction=config.model.shift_direction,
        files=files,
        built_with={
            "tsm-tal": __version__,
            "torch": str(torch.__version__),
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        checkpoint={
            "name": config.name,
            "epoch": checkpoint.epoch,
            "sha256": sha256(path.read_bytes()),
            **{f"validation_{name}": value for name, value in checkpoint.metrics.items()},
        },
    )
