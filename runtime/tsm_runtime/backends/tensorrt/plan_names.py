"""Names of plans in a bundle: one for each library, and for each further kind of GPU."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tsm_runtime.backends.tensorrt.library import Library
from tsm_runtime.bundle.manifest import ModelFile

_SUFFIXES: Mapping[Library, str] = {"tensorrt": ".plan", "tensorrt_rtx": ".rtx.plan"}


def plan_name(stem: str, library: Library, kind: str = "") -> str:
    """Return the name of a plan.

    >>> plan_name("model.fp16", "tensorrt"), plan_name("model.fp16", "tensorrt", "8.6")
    ('model.fp16.plan', 'model.fp16.sm86.plan')

    Args:
        stem: of the ONNX file that it is built from.
        library: that builds it.
        kind: compute capability of its GPU; empty: the first kind that a bundle has plans for.
    """
    return f"{stem}{f'.sm{kind.replace(chr(46), str())}' if kind else ''}{_SUFFIXES[library]}"


def plans_for_gpu(files: Mapping[str, ModelFile], stem: str, library: Library, capability: str) -> list[str]:
    """Return the plans of a stem and library, those for this kind of GPU first, then that of the first kind.

    Args:
        files: of the bundle.
        stem: see `plan_name`.
        library: see `plan_name`.
        capability: compute capability of the GPU; empty: it is not known.
    """
    pattern = re.compile(rf"{re.escape(stem)}(\.sm[0-9]+)?{re.escape(_SUFFIXES[library])}")

    def rank(name: str) -> tuple[bool, bool, str]:
        engine = files[name].engine
        fits = engine is not None and capability in engine.compute_capabilities
        return not fits, name != plan_name(stem, library), name

    return sorted(filter(pattern.fullmatch, files), key=rank)
