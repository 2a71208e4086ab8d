"""Which plans are for this machine, and what is said of the others."""

from __future__ import annotations

import pytest

from tsm_runtime.backends.cuda.gpu import Gpu
from tsm_runtime.backends.tensorrt.plan_fit import other_model, require_fit
from tsm_runtime.bundle.manifest import EngineInfo
from tsm_runtime.errors import BundleError

H100 = "NVIDIA H100 80GB HBM3"


def info(**changes: object) -> EngineInfo:
    facts = {
        "library": "tensorrt",
        "version": "10.16.1.11",
        "gpu": H100,
        "compute_capabilities": ("9.0",),
        "batch": (1, 8, 32),
        "onnx_sha256": "",
    }
    return EngineInfo(**(facts | changes))  # type: ignore[arg-type]


def rtx(*capabilities: str, version: str = "1.7.1.116") -> EngineInfo:
    return info(library="tensorrt_rtx", version=version, gpu="", compute_capabilities=capabilities)


COMPATIBLE = {"version_compatible": True}
AMPERE_PLUS = {
    "hardware_compatibility": "ampere_plus",
    "compute_capabilities": ("8.6",),
    "gpu": "NVIDIA RTX A6000",
}


@pytest.mark.parametrize(
    ("engine", "version", "capability"),
    [
        (info(), "10.16.1.11", "9.0"),
        (info(**COMPATIBLE), "10.16.1.11", "9.0"),
        (info(**COMPATIBLE), "10.16.1.12", "9.0"),
        (info(**COMPATIBLE), "11.4.0.106", "9.0"),
        (info(version="10.9.0.34", **COMPATIBLE), "10.16.1.11", "9.0"),
        (info(**AMPERE_PLUS), "10.16.1.11", "8.0"),
        (info(**AMPERE_PLUS), "10.16.1.11", "9.0"),
        (info(**AMPERE_PLUS), "10.16.1.11", "12.0"),
        (info(compute_capabilities=("7.5",), hardware_compatibility="ampere_plus"), "10.16.1.11", "7.5"),
        (info(compute_capabilities=()), "10.16.1.11", "9.0"),  # an older manifest: the library decides
        (rtx("8.6", "8.9"), "1.7.1.116", "8.9"),
        (rtx(), "1.7.1.116", "8.6"),
        (rtx(), "1.7.1.116", "12.1"),
    ],
)
def test_plans_that_fit(engine: EngineInfo, version: str, capability: str) -> None:
    require_fit(engine, version=version, gpu=Gpu("a GPU", capability), what="x.plan")


@pytest.mark.parametrize(
    ("engine", "version", "capability", "words"),
    [
        (info(), "10.16.1.12", "9.0", "is for tensorrt 10.16.1.11, here is 10.16.1.12;"),
        (info(), "11.4.0.106", "9.0", "is for tensorrt 10.16.1.11, here is 11.4.0.106;"),
        (info(**COMPATIBLE), "10.9.0.34", "9.0", "is for tensorrt 10.16.1.11 or later, here is 10.9.0.34;"),
        (info(**COMPATIBLE), "12.0.0.1", "9.0", "is for tensorrt 10.16.1.11 or later, here is 12.0.0.1;"),
        (
            info(),
            "10.16.1.11",
            "8.9",
            f"is for {H100} (compute capability 9.0), here is a GPU (compute capability 8.9);",
        ),
        (
            info(**AMPERE_PLUS),
            "10.16.1.11",
            "7.5",
            "is for NVIDIA RTX A6000 (compute capability 8.6 or 8.0 and later), here is a GPU",
        ),
        (rtx(), "1.6.0.1", "8.6", "is for tensorrt_rtx 1.7.1.116, here is 1.6.0.1;"),
        (rtx(), "1.7.1.116", "9.0", "is for compute capabilities 8.0, 8.6, 8.9, 12.0 and later, here is"),
        (rtx(), "1.7.1.116", "7.5", "is for compute capabilities 8.0, 8.6, 8.9, 12.0 and later, here is"),
        (rtx("8.6", "8.9"), "1.7.1.116", "9.0", "is for compute capability 8.6 or 8.9, here is a GPU"),
    ],
)
def test_plans_for_elsewhere_are_refused(
    engine: EngineInfo, version: str, capability: str, words: str
) -> None:
    with pytest.raises(BundleError) as caught:
        require_fit(engine, version=version, gpu=Gpu("a GPU", capability), what="x.plan")
    message = str(caught.value)
    assert message.startswith(f"x.plan {words}")
    assert message.endswith("; build it again here: tsm-run --rebuild, or tsm-export --target tensorrt")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("engine", "differs"),
    [
        (info(), False),
        (info(gpu="NVIDIA H100 PCIe"), True),
        (info(gpu="NVIDIA H100 PCIe", hardware_compatibility="ampere_plus"), False),
        (info(gpu="NVIDIA H100 PCIe", hardware_compatibility="same_compute_capability"), False),
        (info(gpu=""), False),
        (rtx("9.0"), False),
    ],
)
def test_another_model_of_the_same_kind_is_reported(engine: EngineInfo, differs: bool) -> None:
    line = other_model(engine, Gpu(H100, "9.0"))
    assert bool(line) is differs
    assert not differs or line.startswith(
        f"it was built on NVIDIA H100 PCIe, here is {H100}: it may be slower"
    )
