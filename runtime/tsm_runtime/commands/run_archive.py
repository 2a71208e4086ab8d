"""What makes a run of `tsm-run` on files a run of an archive, and the settings that its records hold."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import msgspec

from tsm_runtime.archive.addresses import is_remote
from tsm_runtime.archive.choice import ArchiveOptions
from tsm_runtime.archive.settings import Settings
from tsm_runtime.commands.checked_run import CheckedRun
from tsm_runtime.commands.file_request import AUTO, FileRequest
from tsm_runtime.fusion.options import describe_fusion


def is_archive(request: FileRequest) -> bool:
    """Whether records are kept: the output is a folder, and an input is one or a list, or a flag says so."""
    from_many = any(
        video.startswith("@") or is_remote(video) or Path(video).is_dir() for video in request.videos or ()
    )
    return request.outputs.into_folder and (from_many or request.archive.request() != ArchiveOptions())


def run_settings(run: CheckedRun) -> Settings:
    """Return all that decides results, as JSON values; batch size and threads change the rounding alone."""
    request, options = run.request, run.options
    members = [
        {
            "bundle": bundle.manifest_sha256,
            "weight": m.weight,
            "temperature": m.temperature,
            "views": list(seen),
        }
        for bundle, m, seen in zip(run.bundles, run.ensemble.members, run.inputs.views, strict=True)
    ]
    settings: dict[str, object] = {
        "bundles" if len(members) > 1 else "bundle": members if len(members) > 1 else members[0]["bundle"],
        "start": options.start_seconds,
        "end": options.end_seconds,
        "min_score": options.min_score,
        "backend": run.backend.backend,
        "precision": run.backend.precision,
        "hwdec": request.machine.hwdec,
        "rate": options.rate,
        "format": request.outputs.chosen_format,
        "label_map": request.outputs.label_map and request.outputs.label_map.read_text(errors="replace"),
        **{name: value for name, value in asdict(request.overrides()).items() if name != "flip" or value},
    }
    if len(members) > 1:
        settings["fusion"] = describe_fusion(options.fusion)
    if (offsets := request.captures.offsets) is not None:
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
