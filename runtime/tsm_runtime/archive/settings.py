"""Settings that determine the result of a video besides its content: bundles and options."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tsm_runtime.files import write_whole

Settings = Mapping[str, object]


def settings_hash(settings: Settings) -> str:
    """Return a short hash of the settings."""
    return hashlib.sha256(msgspec.json.encode(settings, order="sorted")).hexdigest()[:16]


def store_settings(folder: Path, settings: Settings) -> str:
    """Store settings in a folder of records, so that a later run can report changes; return their hash.

    Raises:
        RunError: the file cannot be written.
    """
    name = settings_hash(settings)
    path = folder / f"settings-{name}.json"
    if not path.exists():
        write_whole(path, msgspec.json.format(msgspec.json.encode(settings, order="sorted")) + b"\n")
    return name


def describe_change(folder: Path, old: str, settings: Settings) -> str:
    """Return the settings that differ from an earlier run, such as `smoothing 0.0, now 0.5`."""
    try:
        before: object = msgspec.json.decode((folder / f"settings-{old}.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return "other settings"
    if not isinstance(before, dict):
        return "other settings"
    now = msgspec.to_builtins(settings, str_keys=True)
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return "; ".join(
        f"{name} {_short(before.get(name))}, now {_short(now.get(name))}" for name in sorted(changed)
    )


def _short(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."
