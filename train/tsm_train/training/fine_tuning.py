"""Where training starts from: weights of a backbone, or a model of one's own with other labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import safetensors
import torch
from torch import nn

from tsm_train.model.pretrained import checkpoint_file, load_pretrained
from tsm_train.model.tsm import TSM
from tsm_train.samples.clips import Labels
from tsm_train.training.checkpoint import FORMAT, Checkpoint, load_checkpoint

_log = logging.getLogger("tsm_runtime")

_LISTED = 8


def start_from(model: TSM, source: str, labels: Labels) -> None:
    """Load the backbone; of a checkpoint of tsm-train also the outputs whose labels this model has too.

    What was taken over and what was not goes to standard error.

    Args:
        model: changed in place.
        source: see `pretrained.load_pretrained`.
        labels: of the model.

    Raises:
        UsageError: the weights cannot be read or do not fit the backbone.
    """
    load_pretrained(model, source)
    path = checkpoint_file(source)
    if not _is_own_checkpoint(path):
        return
    checkpoint = load_checkpoint(path)
    notes = [f"starts from {source}: backbone"]
    theirs = checkpoint.labels
    if theirs.head == labels.head:
        notes.append(_take_rows(model.action_head, checkpoint, "action", theirs.actions, labels.actions))
    else:
        notes.append(f"actions start from random weights: it has a {theirs.head} head")
    if model.scene_head is not None:
        notes.append(_take_rows(model.scene_head, checkpoint, "scene", theirs.scenes, labels.scenes))
    _log.warning("; ".join(notes))


def _is_own_checkpoint(path: Path) -> bool:
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    with safetensors.safe_open(path, framework="pt") as stream:
        return (stream.metadata() or {}).get("format") == FORMAT


def _take_rows(
    head: nn.Linear, checkpoint: Checkpoint, kind: str, theirs: Sequence[str], ours: Sequence[str]
) -> str:
    """Copy the rows of equal labels; say which."""
    common = [label for label in ours if label in theirs]
    if common:
        to, source = [ours.index(label) for label in common], [theirs.index(label) for label in common]
        with torch.no_grad():
            for name in ("weight", "bias"):
                getattr(head, name)[to] = checkpoint.weights[f"{kind}_head.{name}"][source]
    notes = [f"{len(common)} of {len(ours)} {kind}s"]
    if new := [label for label in ours if label not in theirs]:
        notes.append(f"new: {_listed(new)}")
    if dropped := [label for label in theirs if label not in ours]:
        notes.append(f"not taken: {_listed(dropped)}")
    return f"{notes[0]} ({', '.join(notes[1:])})" if notes[1:] else notes[0]


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _LISTED} more" if len(labels) > _LISTED else ""
    return ", ".join(labels[:_LISTED]) + more
