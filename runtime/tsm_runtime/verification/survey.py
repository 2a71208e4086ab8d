"""Capabilities of this machine: processor, backends, GPU, decoders, extras, and runnable model files."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import av
from av.codec.hwaccel import hwdevices_available

from tsm_runtime._version import __version__
from tsm_runtime.backends.cuda.gpu import find_gpu
from tsm_runtime.backends.onnxruntime_cuda import has_cuda_provider
from tsm_runtime.backends.onnxruntime_module import installed_version
from tsm_runtime.backends.tensorrt.library import import_library
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.errors import BackendError, TsmError
from tsm_runtime.machine import num_cores
from tsm_runtime.models.choice import open_model
from tsm_runtime.models.sound_branch import SoundBranch
from tsm_runtime.models.temporal_head import TemporalHead
from tsm_runtime.models.view_join import ViewJoin
from tsm_runtime.verification.host import cpu_name
from tsm_runtime.wording import counted, first_line

Topic = Literal["machine", "backend", "gpu", "decoder", "extra", "bundle"]
State = Literal["ok", "missing", "unusable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One capability.

    Args:
        topic, name: identify the capability.
        state: `missing`: something has to be installed; `unusable`: installed, but it does not work.
        detail: version, or the reason of the state.
        remedy: command that helps; empty if there is none.
    """

    topic: Topic
    name: str
    state: State = "ok"
    detail: str = ""
    remedy: str = ""


def survey_machine() -> Iterator[Finding]:
    """Yield the findings for this machine, in the order of a report."""
    yield Finding(
        topic="machine", name="tsm-tal", detail=f"{__version__}, Python {platform.python_version()}"
    )
    yield Finding(topic="machine", name="system", detail=f"{platform.system()} {platform.machine()}")
    yield Finding(topic="machine", name="processor", detail=f"{cpu_name()}, {counted(num_cores(), 'core')}")
    yield Finding(topic="machine", name="instructions", detail=", ".join(_cpu_features()) or "not known")
    yield from _backends()
    yield _gpu()
    yield from _decoders()
    yield from _extras()


# --- machine ----------------------------------------------------------------------------------------

_FEATURES = (
    *("sse4_2", "avx", "avx2", "f16c", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16"),
    *("amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve"),
)
"""Instruction sets of x86 and ARM; vnni, amx and i8mm speed up INT8 models, bf16 speeds up bfloat16."""


def _cpu_features() -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    lines = (line.partition(":") for line in text.splitlines())
    flags = next(
        (set(value.split()) for key, _, value in lines if key.strip() in ("flags", "Features")), set()
    )
    return [name for name in _FEATURES if name in flags]


# --- backends ---------------------------------------------------------------------------------------


def _backends() -> Iterator[Finding]:
    yield _package("backend", "onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "cpu")
    if has_cuda_provider():
        yield Finding(topic="backend", name="onnxruntime-cuda", detail="built for CUDA")
    else:
        yield Finding(
            topic="backend",
            name="onnxruntime-cuda",
            state="missing",
            detail="onnxruntime as installed has no CUDA",
            remedy="pip uninstall onnxruntime && pip install 'tsm-tal[gpu]'",
        )
    yield _package("backend", "openvino", ("openvino",), "openvino")
    yield _tensorrt()


def _tensorrt() -> Finding:
    try:
        module = import_library("tensorrt")
    except BackendError as error:
        state: State = "missing" if find_spec("tensorrt") is None else "unusable"
        return Finding(
            topic="backend",
            name="tensorrt",
            state=state,
            detail=first_line(error),
            remedy="pip install 'tsm-tal[tensorrt]'",
        )
    return Finding(topic="backend", name="tensorrt", detail=str(module.__version__))


def _package(topic: Topic, module: str, distributions: tuple[str, ...], extra: str) -> Finding:
    """Return whether a module is installed, without importing it."""
    if find_spec(module) is None:
        return Finding(
            topic=topic,
            name=module,
            state="missing",
            detail="not installed",
            remedy=f"pip install 'tsm-tal[{extra}]'",
        )
    versions = [version for name in distributions if (version := installed_version(name))]
    return Finding(topic=topic, name=module, detail=versions[0] if versions else "version not known")


def _gpu() -> Finding:
    try:
        gpu = find_gpu()
    except BackendError as error:
        return Finding(topic="gpu", name="NVIDIA", state="missing", detail=first_line(error))
    capability = f"compute capability {gpu.compute_capability}"
    return Finding(topic="gpu", name=gpu.name, detail=capability)


# --- decoders ---------------------------------------------------------------------------------------

_CODECS = ("h264", "hevc", "av1", "vp9", "vp8", "mpeg4", "mpeg2video", "mjpeg", "vvc", "prores")


def _decoders() -> Iterator[Finding]:
    version = ".".join(map(str, av.library_versions["libavcodec"]))
    yield Finding(topic="decoder", name="FFmpeg", detail=f"libavcodec {version}, PyAV {av.__version__}")
    there = [name for name in _CODECS if _can_decode(name)]
    yield Finding(topic="decoder", name="codecs", detail=", ".join(there))
    absent = [name for name in _CODECS if name not in there]
    if absent:
        yield Finding(topic="decoder", name=", ".join(absent), state="missing", detail="not in this FFmpeg")
    if "cuda" in hwdevices_available():
        yield Finding(topic="decoder", name="NVDEC", detail="in this FFmpeg; used by --hwdec with a GPU")
    else:
        yield Finding(topic="decoder", name="NVDEC", state="missing", detail="not in this FFmpeg")


def _can_decode(name: str) -> bool:
    try:
        return av.Codec(name, "r").is_decoder
    except (ValueError, av.error.FFmpegError):
        return False


# --- extras -----------------------------------------------------------------------------------------

_EXTRAS = {
    "report": ("PIL", "pillow", "--overlay"),
    "parquet": ("pyarrow", "pyarrow", "-o all.parquet"),
    "cluster": ("ray", "ray", "--ray"),
    "cloud": ("fsspec", "fsspec", "s3://, gs://, https://"),
    "serve": ("prometheus_client", "prometheus_client", "--metrics"),
}


def _extras() -> Iterator[Finding]:
    for extra, (module, distribution, purpose) in _EXTRAS.items():
        found = _package("extra", module, (distribution,), extra)
        yield Finding(
            topic="extra",
            name=extra,
            state=found.state,
            detail=f"{purpose}: {found.detail}",
            remedy=found.remedy,
        )


# --- a bundle ---------------------------------------------------------------------------------------


def survey_bundle(bundle: Bundle) -> Iterator[Finding]:
    """Load each model file of a bundle, and yield whether it opens here."""
    for name in sorted(bundle.manifest.files):
        yield _file_finding(bundle, name)


def can_run(findings: list[Finding]) -> bool:
    """Return whether a file of the bundle can score clips here."""
    return any(finding.state == "ok" and finding.name.startswith("model.") for finding in findings)


def _file_finding(bundle: Bundle, name: str) -> Finding:
    kind = bundle.manifest.files[name].kind
    if kind == "preprocess":
        return _preprocess_finding(bundle, name)
    if kind in _FEATURE_MODELS:
        return _feature_model_finding(bundle, name)
    remedy = ""
    for engine in ("onnxruntime", "openvino"):
        try:
            backend = open_model(bundle, name, engine=engine, num_threads=1)
        except TsmError as error:
            why = first_line(error)
            if name.endswith(".plan"):
                remedy = f"tsm-run --model {bundle.path} --backend tensorrt --rebuild VIDEO"
                break
            continue
        try:
            return Finding(topic="bundle", name=name, detail=f"runs on {backend.name}")
        finally:
            backend.close()
    return Finding(topic="bundle", name=name, state="unusable", detail=why, remedy=remedy)


_FEATURE_MODELS: Mapping[str, tuple[str, Callable[[Bundle], object]]] = {
    "head": ("temporal head", TemporalHead),
    "audio": ("sound branch", SoundBranch),
    "views": ("joint model of views", ViewJoin),
}
"""Files that take features, by kind: what they are, and what opens them."""


def _feature_model_finding(bundle: Bundle, name: str) -> Finding:
    """Return whether a model of features opens here."""
    what, open_model_of = _FEATURE_MODELS[bundle.manifest.files[name].kind]
    try:
        open_model_of(bundle)
    except TsmError as error:
        return Finding(topic="bundle", name=name, state="unusable", detail=first_line(error))
    return Finding(topic="bundle", name=name, detail=f"{what}, runs on the CPU beside the model")


def _preprocess_finding(bundle: Bundle, name: str) -> Finding:
    try:
        bundle.model_bytes(name)
    except TsmError as error:
        return Finding(topic="bundle", name=name, state="unusable", detail=first_line(error))
    return Finding(topic="bundle", name=name, detail="draws pictures for --hwdec, on a GPU")
