"""Options of `tsm-run`: the part of a video, and what decodes and computes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tsm_runtime.commands.model_options as options
from tsm_runtime.commands.grouped_options import panel
from tsm_runtime.terminal import is_terminal

if TYPE_CHECKING:
    from tsm_runtime.models.choice import BackendRequest

_machine, _part = panel("Machine"), panel("Part of a video")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFlags:
    """The part of a video that is run, and its name in the output."""

    start: Annotated[float, _part(help="begin at this second of the video", min=0)] = 0.0
    end: Annotated[float | None, _part(help="stop at this second [default: the video's end]", min=0)] = None
    video_id: Annotated[
        str | None, _part("--id", help="name of the one video in the output [default: its file name]")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFlags:
    """What decodes and computes, and how much at a time."""

    batch: Annotated[
        int | None,
        _machine(
            help="clips per call of the model [default: 1 on a CPU, more on a GPU]", min=1, show_default=False
        ),
    ] = None
    jobs: Annotated[
        int | None,
        _machine(
            help="videos at a time, whose clips share batches [default: 1 on a CPU, 1 for every 4 cores"
            " beside a GPU, with --hwdec 1 for every decoder of the GPU]",
            min=1,
            max=64,
        ),
    ] = None
    threads: options.Threads = None
    precision: options.Precision = None
    backend: options.Backend = None
    hwdec: Annotated[
        Literal["none", "auto", "cuda"],
        _machine(
            help="decode on the GPU (NVDEC), for --backend tensorrt and onnxruntime-cuda, frames stay there;"
            " auto: if that works, else on the CPU, and says so"
        ),
    ] = "none"
    device: Annotated[
        str, _machine("--device", help="GPU by its number; several, as 0,1 or all, share the videos")
    ] = "0"
    rebuild: options.Rebuild = False
    rate: Annotated[
        float | None,
        _machine(
            help="frames per second of videos that hold no times, such as raw MJPEG; others ignore it"
            " [default: 25 is assumed, with a warning]",
            show_default=False,
        ),
    ] = None
    playlists: Annotated[
        bool,
        _machine(
            "--allow-playlists",
            help="also read playlists (HLS, concat lists), whose files must lie below the playlist's folder",
        ),
    ] = False

    @property
    def devices(self) -> tuple[int, ...]:
        """Return the numbers of the GPUs.

        Raises:
            UsageError, BackendError: see `device_numbers`.
        """
        from tsm_runtime.backends.cuda.device_numbers import device_numbers

        return device_numbers(self.device)

    def backend_request(self, *, quiet: bool) -> BackendRequest:
        """Return the backend to open; which one `auto` takes is reported on a terminal or by request."""
        from tsm_runtime.models.choice import BackendRequest

        return BackendRequest(
            backend=self.backend or "auto",
            precision=self.precision,
            rebuild=self.rebuild,
            num_threads=self.threads,
            parallel_calls=2,
            device=self.devices[0],
            announce=not quiet and (self.backend == "auto" or is_terminal(sys.stderr)),
        )
