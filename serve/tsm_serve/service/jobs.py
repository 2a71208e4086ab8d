"""Jobs: a bounded queue, the worker processes that take from it, and the state of each job."""

from __future__ import annotations

import json
import secrets
import shutil
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tsm_runtime.errors import TsmError
from tsm_runtime.files import write_whole
from tsm_runtime.results import Result
from tsm_runtime.wording import counted
from tsm_serve.service.worker import Work, WorkCancelledError, Worker, WorkFailedError

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = frozenset({"done", "failed", "cancelled"})

_REQUEST = "job.json"


class QueueFullError(TsmError):
    """The queue is full."""


class StoppingError(TsmError):
    """The service is stopping and takes no more jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimits:
    """Limits of the queue.

    Args:
        queue: jobs that may wait.
        seconds: that one job may take.
        kept: ended jobs whose results are kept, the newest.
    """

    queue: int = 16
    seconds: float = 3600.0
    kept: int = 1000


@dataclass(eq=False, slots=True)
class Job:
    """A job. `changes` counts its changes, for waiting clients."""

    job_id: str
    work: Work
    is_upload: bool
    state: JobState = "queued"
    reached_seconds: float = 0.0
    claimed_seconds: float | None = None
    error: str = ""
    result: Result | None = None
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    changes: int = 0
    fetched: bool = False


OnEnd = Callable[[Job], None]


class Jobs:
    """Takes jobs and works on them; any thread may call it.

    Args:
        bundles: folders by the model's name.
        spool: folder of uploads and of the requests of unfinished jobs, which are queued again here.
        limits: see `JobLimits`.
        num_workers: processes.
        num_threads: of the network in each.
        on_end: called with each job that ended.
    """

    def __init__(
        self,
        bundles: Mapping[str, Path],
        spool: Path,
        limits: JobLimits,
        *,
        num_workers: int = 1,
        num_threads: int | None = None,
        on_end: OnEnd = lambda _: None,
    ) -> None:
        self.limits = limits
        self.spool = spool
        self._on_end = on_end
        self._change = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._stopping = False
        self._take_up(bundles)
        self._workers = [Worker(bundles, num_threads) for _ in range(num_workers)]
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), name="jobs", daemon=True)
            for worker in self._workers
        ]
        for thread in self._threads:
            thread.start()

    def new_folder(self) -> Path:
        """Return a new folder of the spool for a job; its name is the job's id."""
        folder = self.spool / secrets.token_hex(8)
        folder.mkdir(parents=True)
        return folder

    def require_room(self) -> None:
        """Check that the queue has room.

        Raises:
            QueueFullError, StoppingError: it would not.
        """
        with self._change:
            if self._stopping:
                raise StoppingError("the service is stopping")
            if len(self._waiting) >= self.limits.queue:
                raise QueueFullError(f"{counted(len(self._waiting), 'job')} already waiting; try again later")

    def submit(self, folder: Path, work: Work, *, is_upload: bool) -> Job:
        """Queue a job whose folder `new_folder` made.

        Raises:
            QueueFullError, StoppingError: it is not taken; the folder is removed.
        """
        job = Job(job_id=folder.name, work=work, is_upload=is_upload)
        try:
            with self._change:
                self.require_room()
                request = {**asdict(work), "path": str(work.path), "is_upload": is_upload}
                write_whole(folder / _REQUEST, json.dumps(request))
                self._jobs[job.job_id] = job
                self._waiting.append(job)
                self._change.notify_all()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return job

    def get(self, job_id: str) -> Job | None:
        """Return a job that is not forgotten yet."""
        with self._change:
            return self._jobs.get(job_id)

    def all(self) -> list[Job]:
        """Return all jobs that are not forgotten yet, oldest first."""
        with self._change:
            return list(self._jobs.values())

    def counts(self) -> tuple[int, int]:
        """Return how many jobs wait and how many run."""
        with self._change:
            return len(self._waiting), sum(job.state == "running" for job in self._jobs.values())

    @property
    def stopping(self) -> bool:
        """Whether no more jobs are taken."""
        return self._stopping

    def cancel(self, job: Job) -> None:
        """End a job, if it has not ended."""
        with self._change:
            job.cancelled.set()
            if job in self._waiting:
                self._waiting.remove(job)
                self._end(job, "cancelled")

    def wait(self, job: Job, changes: int, seconds: float) -> int:
        """Wait until a job has changed since `changes`; return the new count."""
        with self._change:
            self._change.wait_for(lambda: job.changes != changes, seconds)
            return job.changes

    def drain(self, grace_seconds: float, linger_seconds: float) -> None:
        """Take no more jobs and let those that run finish; those that wait stay in the spool.

        Args:
            grace_seconds: how long running jobs may take.
            linger_seconds: how long to wait for clients to fetch what finished meanwhile.
        """
        with self._change:
            self._stopping = True
            running = [job for job in self._jobs.values() if job.state == "running"]
            self._change.notify_all()
            self._change.wait_for(lambda: all(job.state in ENDED for job in running), grace_seconds)
            self._change.wait_for(
                lambda: all(j.fetched or j.state != "done" for j in running), linger_seconds
            )

    def note_fetched(self, job: Job) -> None:
        """Note that a client has a job's result."""
        with self._change:
            job.fetched = True
            self._change.notify_all()

    def close(self) -> int:
        """End the workers; return how many jobs are left in the spool."""
        with self._change:
            self._stopping = True
            self._change.notify_all()
        for worker in self._workers:
            worker.close()
        for thread in self._threads:
            thread.join()
        return sum(1 for _ in self.spool.glob(f"*/{_REQUEST}"))

    # --- parts --------------------------------------------------------------------------------------

    def _take_up(self, bundles: Mapping[str, Path]) -> None:
        for request in sorted(self.spool.glob(f"*/{_REQUEST}"), key=lambda path: path.stat().st_mtime_ns):
            try:
                values: dict[str, Any] = json.loads(request.read_text("utf-8"))
                is_upload = bool(values.pop("is_upload"))
                work = replace(Work(**values), path=Path(values["path"]))
            except (ValueError, TypeError, KeyError):
                continue
            if work.model in bundles:
                job = Job(job_id=request.parent.name, work=work, is_upload=is_upload)
                self._jobs[job.job_id] = job
                self._waiting.append(job)

    def _serve(self, worker: Worker) -> None:
        while (job := self._next()) is not None:
            self._work(worker, job)

    def _next(self) -> Job | None:
        with self._change:
            self._change.wait_for(lambda: self._stopping or self._waiting)
            if self._stopping:
                return None
            job = self._waiting.popleft()
            job.state, job.started = "running", time.time()
            self._changed(job)
            return job

    def _work(self, worker: Worker, job: Job) -> None:
        def progress(reached: float, claimed: float | None) -> None:
            with self._change:
                job.reached_seconds, job.claimed_seconds = reached, claimed
                self._changed(job)

        try:
            result = worker.run(job.work, self.limits.seconds, job.cancelled, progress)
        except WorkCancelledError:
            self._end(job, "cancelled")
        except WorkFailedError as error:
            if self._stopping and worker.closed:
                return  # ended by `close`: it stays in the spool
            self._end(job, "failed", error=str(error))
        else:
            self._end(job, "done", result=result)

    def _end(self, job: Job, state: JobState, *, result: Result | None = None, error: str = "") -> None:
        shutil.rmtree(self.spool / job.job_id, ignore_errors=True)
        with self._change:
            job.state, job.result, job.error, job.ended = state, result, error, time.time()
            self._changed(job)
            ended = [other for other in self._jobs.values() if other.state in ENDED]
            for old in ended[: max(0, len(ended) - self.limits.kept)]:
                del self._jobs[old.job_id]
        self._on_end(job)

    def _changed(self, job: Job) -> None:
        job.changes += 1
        self._change.notify_all()
