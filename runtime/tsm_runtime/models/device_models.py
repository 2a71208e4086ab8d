"""The models of a run on one device, and what decodes there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace

from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.models.choice import BackendRequest
from tsm_runtime.models.member import Member, Overrides
from tsm_runtime.models.nvdec import Nvdec
from tsm_runtime.models.nvdec_opening import Hwdec, open_nvdec
from tsm_runtime.models.opening import closing_members, open_members


@dataclass(frozen=True, slots=True)
class DeviceModels:
    """The models of a run on one device, one for each view that a model sees, and what decodes there."""

    members: Sequence[Member]
    nvdec: Nvdec | None = None

    @property
    def on_cpu(self) -> bool:
        """Whether a model runs on the CPU."""
        return any(member.backend.device == "cpu" for member in self.members)


def open_device_models(
    ensemble: Ensemble,
    bundles: Sequence[Bundle],
    views: Sequence[Sequence[str]],
    backend: BackendRequest,
    overrides: Overrides,
    hwdec: Hwdec,
    held: ExitStack,
) -> DeviceModels:
    """Open the models, and the decoder of the GPU.

    Args:
        ensemble: its members are opened.
        bundles: one for each member.
        views: views that each member sees.
        backend: requested for the models; names the device.
        overrides: of settings of the bundles.
        hwdec: what decodes, see `open_nvdec`.
        held: closes what is opened.

    Raises:
        TsmError: see `open_members` and `open_nvdec`.
    """
    opened = held.enter_context(closing_members(open_members(ensemble, bundles, backend, overrides)))
    decoder = open_nvdec(hwdec, bundles, opened, backend.device, rebuild=backend.rebuild)
    nvdec = held.enter_context(decoder or nullcontext())
    seeing = [replace(m, view=view) for m, seen in zip(opened, views, strict=True) for view in seen]
    return DeviceModels(seeing, nvdec)
