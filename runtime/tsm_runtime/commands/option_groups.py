"""Options that belong together, as dataclasses; each builds the request that the rest of the program takes.

The requests are imported where they are built: --help answers at once.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tsm_runtime.commands.run_options as options
from tsm_runtime.terminal import is_terminal

if TYPE_CHECKING:
    from tsm_runtime.archive.choice import ArchiveOptions
    from tsm_runtime.archive.ray_run import RayOptions
    from tsm_runtime.commands.choose_models import ModelRequest
    from tsm_runtime.commands.run_captures import CaptureRequest
    from tsm_runtime.models.choice import BackendRequest
    from tsm_runtime.models.member import Overrides
    from tsm_runtime.outputs.cuts.spans import CutRequest
    from tsm_runtime.pipeline.isolation import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureFlags:
    """Videos of captures."""

    capture: options.Captures = None
    view: options.Views = None
    offsets: options.Offsets = None

    @property
    def given(self) -> bool:
        """Whether captures are run, not single videos."""
        return bool(self.capture or self.view)

    def request(self) -> CaptureRequest:
        """Return the captures to find."""
        from tsm_runtime.commands.run_captures import CaptureRequest

        return CaptureRequest(
            captures=tuple(self.capture or ()), views=tuple(self.view or ()), offsets=self.offsets
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionFlags:
    """How the results of several models are fused."""

    weights: options.Weights = None
    iou: options.Iou = None
    denominator: options.Denominator = None
    method: options.Method = None
    ensemble: options.Ensemble = None

    def request(self, models: list[Path] | None, min_score: float | None) -> ModelRequest:
        """Return the models to choose."""
        from tsm_runtime.commands.choose_models import ModelRequest

        return ModelRequest(
            models=tuple(models or ()),
            ensemble=self.ensemble,
            weights=self.weights,
            iou=self.iou,
            denominator=self.denominator,
            method=self.method,
            min_score=min_score,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFlags:
    """What is written, and where."""

    output: options.Output = None
    format: options.FormatName = None
    label_map: options.LabelMap = None
    overlay: options.Overlay = None
    report: options.Report = None
    embed: options.Embed = False
    truth: options.Truth = None
    summary: options.Summary = None
    csv_columns: options.CsvColumns = None
    no_clobber: options.NoClobber = False
    clips: options.Clips = None
    clips_exact: options.ClipsExact = False
    clips_padding: options.ClipsPadding = 0.0
    clips_reel: options.ClipsReel = False

    def cuts(self) -> CutRequest | None:
        """Return how segments are cut; None: not at all.

        Raises:
            UsageError: an option of clips without their folder.
        """
        from tsm_runtime.errors import UsageError
        from tsm_runtime.outputs.cuts.spans import CutRequest

        if self.clips is None:
            if self.clips_exact or self.clips_padding or self.clips_reel:
                raise UsageError("--clips-exact, --clips-padding and --clips-reel go with --clips FOLDER")
            return None
        return CutRequest(
            folder=self.clips,
            exact=self.clips_exact,
            padding_seconds=self.clips_padding,
            reel=self.clips_reel,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFlags:
    """Replacements for the bundle's settings; None: as in the bundle."""

    smoothing: options.Smoothing = None
    min_duration: options.MinDuration = None
    window: options.Window = None
    stride: options.Stride = None

    def overrides(self, decoding: options.DecodingMethod = None, *, flip: bool = False) -> Overrides:
        """Return the replacements."""
        from tsm_runtime.models.member import Overrides

        return Overrides(
            smoothing_seconds=self.smoothing,
            min_duration_seconds=self.min_duration,
            window_seconds=self.window,
            stride_seconds=self.stride,
            decoding=decoding,
            flip=flip,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFlags:
    """The part of a video that is run, and its name in the output."""

    start: options.Start = 0.0
    end: options.End = None
    video_id: options.VideoId = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFlags:
    """What decodes and computes, and how much at a time."""

    batch: options.Batch = None
    jobs: options.Jobs = None
    threads: options.Threads = None
    precision: options.Precision = None
    backend: options.Backend = None
    hwdec: options.Hwdec = "none"
    device: options.GpuNumbers = "0"
    rebuild: options.Rebuild = False
    rate: options.Rate = None
    playlists: options.Playlists = False

    @property
    def devices(self) -> tuple[int, ...]:
        """Return the numbers of the GPUs.

        Raises:
            UsageError, BackendError: see `device_numbers`.
        """
        from tsm_runtime.commands.device_numbers import device_numbers

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
            tell=not quiet and (self.backend == "auto" or is_terminal(sys.stderr)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFlags:
    """How an output folder is continued."""

    resume: options.Resume = False
    checksum: options.Checksum = False
    retry_failed: options.RetryFailed = False
    shard: options.ShardText = None

    def request(self) -> ArchiveOptions:
        """Return the options of the archive."""
        from tsm_runtime.archive.choice import ArchiveOptions
        from tsm_runtime.archive.shard import Shard

        return ArchiveOptions(
            resume=self.resume,
            checksum=self.checksum,
            retry_failed=self.retry_failed,
            shard=Shard() if self.shard is None else Shard.parse(self.shard),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolationFlags:
    """Whether each video is decoded in its own process, and that process's limits."""

    isolate: options.Isolate = False
    memory_limit: options.MemoryLimit = None
    time_limit: options.TimeLimit = None

    def limits(self) -> Limits | None:
        """Return the limits; None: decode in this process."""
        from tsm_runtime.pipeline.isolation import Limits

        if not self.isolate and self.memory_limit is None and self.time_limit is None:
            return None
        return Limits(memory_mebibytes=self.memory_limit, seconds=self.time_limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class RayFlags:
    """Whether and how wide the run is on a Ray cluster."""

    ray: options.RayAddress = None
    workers: options.Workers = 0
    worker_cpus: options.WorkerCpus = 1.0
    worker_gpus: options.WorkerGpus = 0.0

    def request(self) -> RayOptions | None:
        """Return the cluster's options; None: run on this machine."""
        from tsm_runtime.archive.ray_run import RayOptions

        if self.ray is None:
            return None
        return RayOptions(
            address=self.ray,
            workers=self.workers,
            worker_cpus=self.worker_cpus,
            worker_gpus=self.worker_gpus,
        )
