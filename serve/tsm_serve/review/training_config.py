"""The configuration of a training from the page."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tsm_runtime.errors import RunError
from tsm_runtime.files import write_whole

Kind = Literal["quick", "full"]
"""quick: the temporal head alone, on features of the backbone as it is; full: the backbone too."""

_EPOCHS = 20
_FOLDS, _ENOUGH_VIDEOS = 4, 4
"""With fewer validation videos the decoding is chosen on folds of the training videos: two videos of Weizmann
chose one that is 7 points of mAP worse (docs/temporal_head.md)."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A configuration of tsm-train.

    Args:
        name: of the run.
        kind: of the training.
        annotations: truth file.
        videos: their folder.
        num_training: videos for training.
        num_validation: videos for validation; without any, the training videos give the scores.
        previous: weights of the last run, from which this one starts; None: those of ImageNet.
        user_config: TOML whose sections other than `[data]` are used; None: those of this module.
    """

    name: str
    kind: Kind
    annotations: Path
    videos: Path
    num_training: int
    num_validation: int
    previous: Path | None = None
    user_config: Path | None = None

    @cached_property
    def text(self) -> str:
        """TOML, by JSON's spelling of strings and lists."""
        data: dict[str, Any] = {
            "annotations": str(self.annotations.absolute()),
            "videos": str(self.videos.absolute()),
            "format": "activitynet",
            # In the middle of annotating, some actions are in the videos for validation alone.
            "accept": ["only-in-validation"],
        }
        if not self.num_validation:
            data |= {"validation_subset": "training", "accept": ["capture-in-two-subsets"]}
        more = self._own_sections() if self.user_config is None else _without_data(self.user_config)
        return f"name = {json.dumps(self.name)}\n[data]\n{_lines(data)}{more}"

    @property
    def is_head_only(self) -> bool:
        """Whether the temporal head is trained alone: a user's configuration may have none."""
        return self.kind == "quick" and "head" in tomllib.loads(self.text)

    @property
    def epochs(self) -> int:
        """Epochs of the backbone; 0: none, or not stated."""
        if self.is_head_only:
            return 0
        return int(tomllib.loads(self.text).get("train", {}).get("epochs", 0))

    def write(self, path: Path) -> None:
        """Write the file.

        Raises:
            RunError: it cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot write {path.parent}: {error.strerror or error}") from error
        write_whole(path, self.text)

    def _own_sections(self) -> str:
        model: dict[str, Any] = {
            "backbone": "efficientnet_lite0",
            "pretrained": str(self.previous.absolute()) if self.previous else "imagenet",
        }
        if self.kind == "quick":
            # A scene head that nothing has trained would give scenes at random.
            model["scene_head"] = self.previous is not None and _has_scenes(self.previous.parent)
            # ImageNet's weights know no shift.
            model["shift"] = self.previous is not None and _has_shift(self.previous.parent)
            train: dict[str, Any] = {}
            # A network that was trained on these videos knows them too well to choose by them.
            folds = 0 if model["shift"] else self._folds
            head: dict[str, Any] = {"epochs": 40, "passes": 2, "folds": folds}
        else:
            train = {
                "epochs": _EPOCHS,
                "learning_rate": 0.005 if self.previous else 0.02,
                "validate_every": 2,
            }
            head = {}
        sections = {
            "model": model,
            "clip": {"interval_seconds": 0.5, "size": 128},
            "train": train,
            "head": head,
        }
        return "".join(f"[{name}]\n{_lines(values)}" for name, values in sections.items())

    @property
    def _folds(self) -> int:
        too_few = self.num_validation < _ENOUGH_VIDEOS
        return min(_FOLDS, self.num_training) if too_few and self.num_training > 1 else 0


def _has_shift(run: Path) -> bool:
    """Return whether the network of a run was trained with the shift."""
    try:
        model = json.loads((run / "config.json").read_text("utf-8"))["model"]
    except (OSError, ValueError, KeyError):
        return True
    return bool(model.get("shift", True))


def _has_scenes(run: Path) -> bool:
    """Return whether the network of a run has learnt scenes."""
    try:
        labels = json.loads((run / "labels.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return bool(labels.get("scenes"))


def _lines(values: dict[str, Any]) -> str:
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=True)}\n" for key, value in values.items())


def _without_data(path: Path) -> str:
    """Return a TOML file's text without its name and its `[data]` section."""
    kept: list[str] = []
    section = ""
    for line in path.read_text("utf-8").splitlines():
        if line.strip().startswith("["):
            section = line.strip().strip("[]").split(".")[0].strip()
        if section not in ("", "data"):
            kept.append(line)
    return "\n".join(kept) + "\n"
