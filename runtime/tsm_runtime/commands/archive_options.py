"""Options of `tsm-run` for archives: how an output folder is continued, isolation, and Ray.

The requests that they build are imported where they are built: --help answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tsm_runtime.commands.grouped_options import panel

if TYPE_CHECKING:
    from tsm_runtime.archive.choice import ArchiveOptions
    from tsm_runtime.archive.ray_run import RayOptions
    from tsm_runtime.pipeline.isolation import Limits

archives = panel("Archives")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFlags:
    """How an output folder is continued."""

    resume: Annotated[
        bool,
        archives(
            "--resume",
            help="skip videos whose result is in the --output folder, from the same content, bundle and"
            " options",
        ),
    ] = False
    checksum: Annotated[
        bool,
        archives("--checksum", help="with --resume: compare contents by SHA-256, not by size and time"),
    ] = False
    retry_failed: Annotated[
        bool, archives("--retry-failed", help="as --resume, and run those again that failed before")
    ] = False
    shard: Annotated[
        str | None,
        archives(
            "--shard",
            help="run a fixed share of the videos, as 3/16, by a hash of their ids: for arrays of jobs",
            show_default=False,
        ),
    ] = None

    def request(self) -> ArchiveOptions:
        """Return the options of the archive.

        Raises:
            UsageError: the shard is wrong.
        """
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

    isolate: Annotated[
        bool,
        archives(
            "--isolate",
            help="decode each video in a process of its own: a crash or hang costs that video alone",
        ),
    ] = False
    memory_limit: Annotated[
        int | None,
        archives(help="MiB that decoding a video may take; with --isolate, which it implies", min=128),
    ] = None
    time_limit: Annotated[
        float | None,
        archives(help="seconds that decoding a video may take; with --isolate, which it implies", min=0.1),
    ] = None

    def limits(self) -> Limits | None:
        """Return the limits; None: decode in this process."""
        from tsm_runtime.pipeline.isolation import Limits

        if not self.isolate and self.memory_limit is None and self.time_limit is None:
            return None
        return Limits(memory_mebibytes=self.memory_limit, seconds=self.time_limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class RayFlags:
    """Whether and how wide the run is on a Ray cluster."""

    ray: Annotated[
        str | None,
        archives(
            "--ray",
            help="run on a Ray cluster: its address, auto for this machine's, local for a new one here",
            show_default=False,
        ),
    ] = None
    workers: Annotated[int, archives(help="--ray: actors; 0: as many as there is room for", min=0)] = 0
    worker_cpus: Annotated[float, archives(help="--ray: cores of each actor")] = 1.0
    worker_gpus: Annotated[float, archives(help="--ray: GPUs of each actor", min=0)] = 0.0

    def request(self) -> RayOptions | None:
        """Return the cluster's options; None: run on this machine.

        Raises:
            UsageError: a number is out of range.
        """
        from tsm_runtime.archive.ray_run import RayOptions

        if self.ray is None:
            return None
        return RayOptions(
            address=self.ray,
            workers=self.workers,
            worker_cpus=self.worker_cpus,
            worker_gpus=self.worker_gpus,
        )
