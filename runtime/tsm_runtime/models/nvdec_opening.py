"""Opening the decoder on a GPU that `--hwdec` requests."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

from av.codec.hwaccel import hwdevices_available

from tsm_runtime.backends.cuda.driver import PrimaryContext
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.errors import BackendError, TsmError, UsageError
from tsm_runtime.models.member import Member
from tsm_runtime.models.nvdec import Drawer, Nvdec
from tsm_runtime.video.preprocess import PREPROCESS_MODEL

_log = logging.getLogger("tsm_runtime")

Hwdec = Literal["none", "auto", "cuda"]


def open_nvdec(
    hwdec: Hwdec,
    bundles: Sequence[Bundle],
    members: Sequence[Member],
    device: int = 0,
    *,
    rebuild: bool = False,
) -> Nvdec | None:
    """Open the decoder requested by `--hwdec`; return None for decoding on the CPU.

    Args:
        hwdec: `cuda` is used or is an error; `auto` says why it decodes on the CPU.
        bundles: of the members, in their order; each has a `preprocess.onnx`.
        members: open, on this GPU.
        device: number of the GPU.
        rebuild: build plans of `preprocess.onnx` that are missing or do not fit this machine, and keep them.

    Raises:
        BackendError: `cuda` is requested and not available.
    """
    if hwdec == "none":
        return None
    try:
        for bundle in bundles:
            if bundle.manifest.sound_input is not None:
                raise BackendError(f"{bundle.path}: takes sound alone, which a CPU decodes; leave it out")
        return _opened(bundles, members, device, rebuild=rebuild, may_fall_back=hwdec == "auto")
    except (TsmError, OSError) as error:
        if hwdec == "auto":
            _log.warning(f"--hwdec auto: decodes on the CPU: {error}")
            return None
        if isinstance(error, UsageError):
            raise
        raise BackendError(f"--hwdec cuda: {error}") from error


def _opened(
    bundles: Sequence[Bundle], members: Sequence[Member], device: int, *, rebuild: bool, may_fall_back: bool
) -> Nvdec:
    if any(member.windows for member in members):
        raise BackendError("windows of panoramas are cut out on the CPU")
    if "cuda" not in hwdevices_available():
        raise BackendError("this PyAV was built without CUDA")
    context = PrimaryContext(device)
    try:
        drawers: dict[int, Drawer] = {}
        for bundle, member in zip(bundles, members, strict=True):
            open_drawer = getattr(member.backend, "open_drawer", None)
            if open_drawer is None:
                raise BackendError(
                    f"{member.backend.name} takes clips from the host's memory only; choose --backend"
                    " tensorrt or onnxruntime-cuda"
                )
            if PREPROCESS_MODEL not in bundle.manifest.files:
                raise BackendError(
                    f"{bundle.path}: has no {PREPROCESS_MODEL}; export it again with tsm-export"
                )
            size = member.spec.size
            drawers[size] = drawers.get(size) or open_drawer(bundle, rebuild=rebuild)
    except BaseException:
        context.close()
        raise
    return Nvdec(context, drawers, may_fall_back=may_fall_back)
