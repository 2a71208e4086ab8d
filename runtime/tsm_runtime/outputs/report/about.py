"""What a page says about how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from tsm_runtime._version import __version__

_MODEL_KEYS = (("backbone", "{}"), ("interval_seconds", "intervals of {:g} s"), ("backend", "on {}"))
_SHOWN_DIGITS = 12


def describe_run_for_page(described: Mapping[str, object], names: Sequence[str]) -> dict[str, str]:
    """Return the models, options and versions of a run as lines of text by name, and the date.

    Args:
        described: see `pipeline.description.describe_run`.
        names: of the bundles, in the order of the models.
    """
    members = described.get("members")
    entries = list(members) if isinstance(members, list) else [described]
    about = {"date": _now()}
    for number, entry in enumerate(entries):
        key = "model" if len(entries) == 1 else f"model {number + 1}"
        name = names[number] if number < len(names) else ""
        about[key] = ", ".join(part for part in (name, _model(entry.get("model"))) if part)
    about["options"] = _pairs(entries[0].get("options")) or "none"
    if "fusion" in described:
        about["fusion"] = _pairs(described["fusion"])
    about["versions"] = _pairs(described.get("versions"))
    return about


def describe_evaluation_for_page(truth: str, predictions: str, mode: str) -> dict[str, str]:
    """Return the files, rules and version of an evaluation, and the date."""
    return {
        "date": _now(),
        "ground truth": truth,
        "predictions": predictions,
        "rules": mode,
        "versions": f"tsm-tal {__version__}",
    }


def _now() -> str:
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")


def _model(model: object) -> str:
    if not isinstance(model, Mapping):
        return ""
    parts = [text.format(model[key]) for key, text in _MODEL_KEYS if key in model]
    return ", ".join([*parts, f"bundle {str(model.get('bundle_sha256', ''))[:_SHOWN_DIGITS]}"])


def _pairs(values: object) -> str:
    if not isinstance(values, Mapping):
        return ""
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
