"""A separate process that decodes and scores, so that no file can end or block the service."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from tsm_runtime.errors import TsmError
from tsm_runtime.results import Result

_POLL_SECONDS = 0.1

OnProgress = Callable[[float, float | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Work of a worker: one video through one model."""

    path: Path
    video_id: str
    model: str
    start_seconds: float = 0.0
    end_seconds: float | None = None
    min_score: float = 0.0


class WorkFailedError(TsmError):
    """A video gave no result; the message is for the client."""


class WorkCancelledError(TsmError):
    """The work was ended before it was done."""


class Worker:
    """Runs work in a child process, which is started when needed and again after it died or was ended.

    Args:
        bundles: folders by the model's name.
        num_threads: of the network.
    """

    def __init__(self, bundles: Mapping[str, Path], num_threads: int | None = None) -> None:
        self._bundles = dict(bundles)
        self._num_threads = num_threads
        self._context = multiprocessing.get_context("spawn")
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self.closed = False

    def run(
        self, work: Work, limit_seconds: float, cancelled: threading.Event, progress: OnProgress
    ) -> Result:
        """Return the result.

        Args:
            work: what to do.
            limit_seconds: longer work is ended.
            cancelled: set by any thread to end it.
            progress: called with the second that is reached and the length that the file claims.

        Raises:
            WorkFailedError: no result, or the limit was reached, or the process died.
            WorkCancelledError: `cancelled` was set.
        """
        pipe = self._started()
        end = time.monotonic() + limit_seconds
        try:
            pipe.send(work)
            while True:
                if pipe.poll(_POLL_SECONDS):
                    kind, value = pipe.recv()
                    if kind == "progress":
                        progress(*value)
                    elif kind == "failed":
                        raise WorkFailedError(value)
                    else:
                        return value  # type: ignore[no-any-return]
                if cancelled.is_set():
                    self._kill()
                    raise WorkCancelledError("cancelled")
                if time.monotonic() > end:
                    self._kill()
                    raise WorkFailedError(f"took longer than the limit of {limit_seconds:g} s")
        except (EOFError, OSError) as error:
            code = self._kill()
            raise WorkFailedError(f"the process that decoded it ended ({code})") from error

    def close(self) -> None:
        """End the process, and the work that runs in another thread with an error."""
        self.closed = True
        process = self._process
        if process is not None:
            process.kill()

    def _started(self) -> Connection:
        if self.closed:
            raise WorkFailedError("the service is stopping")
        if self._process is not None and self._process.is_alive() and self._pipe is not None:
            return self._pipe
        self._kill()
        ours, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=_work,
            args=(theirs, self._bundles, self._num_threads),
            name="tsm-serve-worker",
            daemon=True,
        )
        self._process.start()
        theirs.close()
        self._pipe = ours
        return ours

    def _kill(self) -> int | None:
        process, self._process = self._process, None
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()
        if process is None:
            return None
        process.kill()
        process.join()
        code = process.exitcode
        process.close()
        return code


def _work(pipe: Connection, bundles: Mapping[str, Path], num_threads: int | None) -> None:
    """Take work until the other end closes; in the child process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service ends its workers itself
    from tsm_runtime.api import Model, load

    models: dict[str, Model] = {}
    with suppress(EOFError, OSError):
        while True:
            work: Work = pipe.recv()
            try:
                if work.model not in models:
                    models[work.model] = load(bundles[work.model], num_threads=num_threads)
                result = _run(pipe, models[work.model], work)
            except TsmError as error:
                pipe.send(("failed", str(error)))
            except Exception as error:  # sent to the client; the worker goes on
                print(f"tsm-serve: {work.path}: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
                pipe.send(("failed", f"{type(error).__name__}: {error}"))
            else:
                pipe.send(("done", replace(result, scores=None, members=())))
    os._exit(0)  # without waiting for threads of decoders


def _run(pipe: Connection, model: object, work: Work) -> Result:
    from tsm_runtime.api import Model
    from tsm_runtime.pipeline.options import Options
    from tsm_runtime.pipeline.run import run

    assert isinstance(model, Model)
    options = Options(
        start_seconds=work.start_seconds, end_seconds=work.end_seconds, min_score=work.min_score
    )

    def report(reached: float, claimed: float | None) -> None:
        pipe.send(("progress", (reached, claimed)))

    return run(work.path, model.member(), options, video_id=work.video_id, progress=report)
