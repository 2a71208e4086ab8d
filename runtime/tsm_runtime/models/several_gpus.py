"""The model of a bundle on several GPUs at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from tsm_runtime.backends.base import Backend
from tsm_runtime.backends.spread import SpreadBackend
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.models.choice import BackendRequest, open_requested


def open_on_devices(bundle: Bundle, request: BackendRequest, devices: Sequence[int]) -> Backend:
    """Open the requested model on each GPU, or once where it runs on the CPU.

    Args:
        bundle: of the model.
        request: for every GPU; its `device` is not read.
        devices: numbers of the GPUs, at least one.

    Raises:
        BundleError, BackendError: see `open_requested`; those already open are closed.
    """
    with ExitStack() as held:
        backends: list[Backend] = []
        for device in devices:
            backends.append(open_requested(bundle, replace(request, device=device)))
            held.callback(backends[-1].close)
            if backends[-1].device == "cpu":  # a second copy would share the same cores
                break
        held.pop_all()
    return backends[0] if len(backends) == 1 else SpreadBackend(backends)
