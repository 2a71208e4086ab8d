"""MODEL_CARD.md of a bundle: classes, scores, intended use, limits."""

from __future__ import annotations

from collections.abc import Iterable

from tsm_runtime.bundle.manifest import Manifest
from tsm_runtime.results import BACKGROUND

MODEL_CARD = "MODEL_CARD.md"

_LIMITS = (
    "It knows the classes above and nothing else; other actions count as background or as the nearest class.",
    "Its scores rank segments; they are no probabilities unless they were calibrated.",
    "Another camera, place or other people than in the training videos need a check of their own.",
    "It must not be the only ground of a decision about a person.",
)


def model_card(manifest: Manifest) -> str:
    """Return the card in Markdown, from what the manifest says.

    Args:
        manifest: of the bundle that the card is written into.
    """
    name = str(manifest.checkpoint.get("name", "model"))
    actions = [label for label in manifest.action_labels if label != BACKGROUND]
    parts = [
        f"# {name}",
        "Temporal action localisation: which action happens from when to when in an untrimmed video"
        + (", and in what scene." if manifest.scene_labels else "."),
        "## Model",
        _table(_model_rows(manifest)),
        "## Classes",
        f"Actions ({len(actions)}): {', '.join(actions)}.",
        f"Scenes ({len(manifest.scene_labels)}): {', '.join(manifest.scene_labels)}."
        if manifest.scene_labels
        else "No scenes.",
        "## Scores",
        _scores(manifest),
        "## Intended use",
        "Finding and timing the actions above in recordings like those it was trained on; "
        "`tsm-eval` scores it on yours.",
        "## Limits",
        "\n".join(f"- {limit}" for limit in _LIMITS),
    ]
    return "\n\n".join(parts) + "\n"


def _model_rows(manifest: Manifest) -> Iterable[tuple[str, str]]:
    shifts = manifest.shift and manifest.sound_input is None
    shift = f"temporal shift, {manifest.shift_direction}" if shifts else "no shift"
    yield "network", f"{manifest.backbone}, {shift}, {manifest.head} head"
    if manifest.temporal_head is not None:
        yield "temporal head", "scores of frames and bounds from `head` graphs"
    if manifest.decoding is not None:
        yield "decoding", manifest.decoding.method
    yield "input", f"{_pictures(manifest)} for each {manifest.interval_seconds:g} s"
    yield "view", manifest.view or "not stated"
    yield "files", ", ".join(f"`{name}`" for name in sorted(manifest.files))
    yield (
        "checkpoint",
        f"epoch {manifest.checkpoint.get('epoch', '?')}, SHA-256 `{manifest.checkpoint.get('sha256', '?')}`",
    )
    yield "built with", ", ".join(f"{package} {version}" for package, version in manifest.built_with.items())


def _pictures(manifest: Manifest) -> str:
    if (sound := manifest.sound_input) is None:
        return f"{manifest.num_frames} frames of {manifest.size} px"
    return f"sound alone, {manifest.num_frames} log-mel pictures of {sound.window_seconds:g} s"


def _scores(manifest: Manifest) -> str:
    prefix = "validation_"
    rows = [
        (f"validation {key.removeprefix(prefix)}", f"{value:.3f}")
        for key, value in manifest.checkpoint.items()
        if key.startswith(prefix) and isinstance(value, float)
    ]
    if not rows:
        return "No validation was run: nothing is known about its accuracy."
    note = "Of the videos that also selected the epoch, so rather too high than too low."
    return f"{note}\n\n{_table(rows)}"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
