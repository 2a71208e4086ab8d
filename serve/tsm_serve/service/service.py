"""A running service: models, jobs, streams, metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.errors import UsageError
from tsm_runtime.results import BACKGROUND
from tsm_serve.service.jobs import Job, Jobs
from tsm_serve.service.metrics import Metrics
from tsm_serve.service.options import ServiceOptions
from tsm_serve.service.streams import Stream, Streams
from tsm_serve.service.uploads import Posted
from tsm_serve.service.worker import Work

_LINGER_SECONDS = 5.0
"""How long clients can fetch results that finished while the service was about to stop."""


class Service:
    """The parts behind the HTTP interface.

    Args:
        bundles: folders that tsm-export wrote; a model's name is its folder's.
        spool: folder of uploads and unfinished jobs.
        options: what is allowed.

    Raises:
        BundleError: a bundle cannot be used.
        UsageError: two bundles have the same name.
    """

    def __init__(self, bundles: list[Path], spool: Path, options: ServiceOptions) -> None:
        self.options = options
        self.metrics = Metrics()
        self.models = _read_bundles(bundles)
        paths = {name: bundle.path for name, bundle in self.models.items()}
        self.jobs = Jobs(
            paths,
            spool,
            options.limits,
            num_workers=options.num_workers,
            num_threads=options.num_threads,
            on_end=self.metrics.job_ended,
        )
        self.metrics.watch(self.jobs)
        self.streams = Streams(paths, options.num_streams, num_threads=options.num_threads)

    def describe_models(self) -> list[dict[str, Any]]:
        """Return the models that a job can name."""
        return [
            {
                "name": name,
                "bundle_sha256": bundle.manifest_sha256,
                "interval_seconds": bundle.manifest.interval_seconds,
                "action_labels": [one for one in bundle.manifest.action_labels if one != BACKGROUND],
                "scene_labels": list(bundle.manifest.scene_labels),
            }
            for name, bundle in self.models.items()
        ]

    def model_name(self, name: str | None) -> str:
        """Return the name of the requested model; None means the first.

        Raises:
            UsageError: there is none of this name.
        """
        if name is None:
            return next(iter(self.models))
        if name not in self.models:
            raise UsageError(f"model {name!r}: there are {', '.join(self.models)}")
        return name

    def submit(self, posted: Posted, folder: Path) -> Job:
        """Queue a job.

        Raises:
            UsageError: the fields do not fit.
            QueueFullError, StoppingError: it is not taken.
        """
        from tsm_runtime.pipeline.options import Options

        fields = posted.request
        Options(start_seconds=fields.start, end_seconds=fields.end, min_score=fields.min_score)
        work = Work(
            path=posted.path,
            video_id=fields.id or Path(posted.name.replace("\\", "/")).stem or "upload",
            model=self.model_name(fields.model),
            start_seconds=fields.start,
            end_seconds=fields.end,
            min_score=fields.min_score,
        )
        return self.jobs.submit(folder, work, is_upload=posted.is_upload)

    def drain(self) -> None:
        """Take no more jobs and let those that run finish, for at most `grace_seconds`."""
        for stream in self.streams.all():
            stream.stop.set()
        self.jobs.drain(self.options.grace_seconds, _LINGER_SECONDS)

    def close(self) -> int:
        """End everything; return how many jobs are left in the spool."""
        self.streams.stop_all(5.0)
        return self.jobs.close()


def describe_job(job: Job) -> dict[str, Any]:
    """Return a job as a JSON object."""
    shown: dict[str, Any] = {
        "id": job.job_id,
        "state": job.state,
        "video": job.work.video_id,
        "model": job.work.model,
        "reached_seconds": round(job.reached_seconds, 3),
        "claimed_seconds": job.claimed_seconds,
        "created": job.created,
        "started": job.started,
        "ended": job.ended,
        "links": {"self": f"/v1/jobs/{job.job_id}", "events": f"/v1/jobs/{job.job_id}/events"},
    }
    if job.state == "done":
        shown["links"]["result"] = f"/v1/jobs/{job.job_id}/result"
    if job.error:
        shown["error"] = job.error
    return shown


def describe_stream(stream: Stream) -> dict[str, Any]:
    """Return a stream as a JSON object; its source without user and password."""
    return {
        "id": stream.stream_id,
        "model": stream.model,
        "ended": stream.ended,
        "error": stream.error,
        "events": f"/v1/streams/{stream.stream_id}/events",
        "websocket": f"/v1/streams/{stream.stream_id}/ws",
    }


def _read_bundles(paths: list[Path]) -> dict[str, Bundle]:
    bundles: dict[str, Bundle] = {}
    for path in paths:
        name = path.resolve().name
        if name in bundles:
            raise UsageError(f"{path}: there is another bundle with the name {name!r}; rename one folder")
        bundles[name] = load_bundle(path)
    return bundles
