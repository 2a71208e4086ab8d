"""What makes a run of `tsm-run` on files a run of an archive, and the settings that its records hold."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import msgspec

from tsm_runtime.archive.addresses import is_remote
from tsm_runtime.archive.choice import ArchiveOptions
from tsm_runtime.archive.settings import Settings
from tsm_runtime.bundle.bundle import Bundle
from tsm_runtime.commands.file_request import FileRequest
from tsm_runtime.commands.run_captures import AUTO
from tsm_runtime.fusion.ensemble_file import Ensemble
from tsm_runtime.fusion.fuse import describe_fusion
from tsm_runtime.models.choice import BackendRequest
from tsm_runtime.models.member import Overrides
from tsm_runtime.outputs.sinks import choose_format, means_folder


def into_folder(request: FileRequest) -> bool:
    """Whether the output is a folder, with a file for each video."""
    return request.outputs.output not in (None, "", "-") and means_folder(str(request.outputs.output))


def is_archive(request: FileRequest) -> bool:
    """Whether records are kept: the output is a folder, and an input is one or a list, or a flag says so."""
    from_many = any(
        video.startswith("@") or is_remote(video) or Path(video).is_dir() for video in request.videos
    )
    return into_folder(request) and (from_many or request.archive != ArchiveOptions())


def run_settings(
    request: FileRequest,
    ensemble: Ensemble,
    backend: BackendRequest,
    overrides: Overrides,
    bundles: Sequence[Bundle],
    views: Sequence[Sequence[str]],
) -> Settings:
    """Return all that decides results, as JSON values; batch size and threads change the rounding alone."""
    options = request.options(ensemble, sum(map(len, views)))
    members = [
        {
            "bundle": bundle.manifest_sha256,
            "weight": m.weight,
            "temperature": m.temperature,
            "views": list(seen),
        }
        for bundle, m, seen in zip(bundles, ensemble.members, views, strict=True)
    ]
    settings: dict[str, object] = {
        "bundles" if len(members) > 1 else "bundle": members if len(members) > 1 else members[0]["bundle"],
        "start": options.start_seconds,
        "end": options.end_seconds,
        "min_score": options.min_score,
        "backend": backend.backend,
        "precision": backend.precision,
        "hwdec": request.machine.hwdec,
        "rate": options.rate,
        "format": choose_format(request.outputs.output, request.outputs.format),
        "label_map": request.outputs.label_map and request.outputs.label_map.read_text(errors="replace"),
        **{name: value for name, value in asdict(overrides).items() if name != "flip" or value},
    }
    if len(members) > 1:
        settings["fusion"] = describe_fusion(options.fusion)
    if request.captures is not None:
        offsets = request.captures.offsets
        if offsets is not None:
            settings["offsets"] = "auto" if offsets == AUTO else offsets.read_text(errors="replace")
    built: dict[str, object] = msgspec.to_builtins(settings, str_keys=True)
    return built


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that what is there is written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
