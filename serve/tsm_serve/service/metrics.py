"""Metrics for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tsm_serve.service.jobs import Job, Jobs


class Metrics:
    """Counts jobs; the registry is its own, so that several services fit into one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._ended = Counter("tsm_jobs_ended", "Jobs by how they ended.", ["state"], registry=self._registry)
        self._refused = Counter("tsm_jobs_refused", "Jobs refused with 429.", registry=self._registry)
        self._video = Counter("tsm_video_seconds", "Seconds of video analysed.", registry=self._registry)
        self._seconds = Histogram(
            "tsm_job_seconds",
            "From taking a job to its result.",
            buckets=(0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000),
            registry=self._registry,
        )
        for state in ("done", "failed", "cancelled"):
            self._ended.labels(state)

    def watch(self, jobs: Jobs) -> None:
        """Report the length of the queue."""

        class Queue(Collector):
            def collect(self) -> list[GaugeMetricFamily]:
                waiting, running = jobs.counts()
                return [
                    GaugeMetricFamily("tsm_jobs_waiting", "Jobs that wait.", value=waiting),
                    GaugeMetricFamily("tsm_jobs_running", "Jobs that run.", value=running),
                ]

        self._registry.register(Queue())

    def job_ended(self, job: Job) -> None:
        """Count a job that ended."""
        self._ended.labels(job.state).inc()
        if job.result is not None and job.ended is not None:
            self._video.inc(job.result.duration_seconds)
            self._seconds.observe(job.ended - job.created)

    def job_refused(self) -> None:
        """Count a job that was refused."""
        self._refused.inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
