"""TensorRT's timings of single layers, kept from one build to the next."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from tsm_runtime.backends.cuda.gpu import Gpu
from tsm_runtime.errors import RunError
from tsm_runtime.files import write_whole


def default_timing_cache(version: str, gpu: Gpu) -> Path:
    """Return the file in the user's cache folder for one version of TensorRT on one kind of GPU."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kind = re.sub(r"[^A-Za-z0-9.]+", "-", f"{version}-{gpu.name}-{gpu.compute_capability}")
    return folder / "tsm-tal" / f"timing-{kind}.cache"


def attach_timing_cache(config: Any, path: Path) -> list[str]:
    """Give a builder's configuration the timings of earlier builds; return warnings.

    A file that cannot be read, or that another version, GPU or program wrote, counts as empty.
    """
    warnings = []
    try:
        old = path.read_bytes()
    except FileNotFoundError:
        old = b""
    except OSError as error:
        old = b""
        warnings.append(f"timing cache {path} cannot be read ({error.strerror}); building without it")
    if old and _set(config, old):
        return warnings
    if old:
        warnings.append(
            f"timing cache {path} is damaged or of another version or GPU; it is replaced after this build"
        )
    _set(config, b"")
    return warnings


def keep_timing_cache(config: Any, path: Path) -> list[str]:
    """Write the timings of a build; return a warning if that fails: the plan is usable without them."""
    cache = config.get_timing_cache()
    if cache is None:
        return []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, bytes(cache.serialize()))
    except (OSError, RunError) as error:
        return [f"timing cache not kept: {error}; the plan is complete"]
    return []


def _set(config: Any, data: bytes) -> bool:
    """Attach a cache of these bytes unless the library refuses them; the configuration keeps it alive."""
    cache = config.create_timing_cache(data)
    return cache is not None and bool(config.set_timing_cache(cache, False))
