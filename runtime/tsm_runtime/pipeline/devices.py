"""Several GPUs that share one list of videos: a thread for each, and one stream of outcomes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from typing import Protocol

from tsm_runtime.captures.selection import CapturePlan
from tsm_runtime.pipeline.meter import Meter
from tsm_runtime.pipeline.run import CaptureOutcome
from tsm_runtime.pipeline.scheduler import VideoProgress
from tsm_runtime.video.finding import VideoInput


class Lane(Protocol):
    """Runs plans on one GPU, and takes each from the iterable when it has room for it."""

    def __call__(  # noqa: D102
        self, plans: Iterable[CapturePlan], *, progress: VideoProgress, meter: Meter
    ) -> Generator[CaptureOutcome]: ...


def run_shared(
    plans: Sequence[CapturePlan],
    lanes: Sequence[Lane],
    *,
    progress: VideoProgress | None = None,
    meter: Meter | None = None,
) -> Generator[CaptureOutcome]:
    """Run plans on several GPUs, and yield the outcome of each, in their order.

    Each GPU takes the next plan when it is ready, so that a faster one does more. Closing the generator ends
    all threads, at their next batch.

    Args:
        plans: what to run.
        lanes: one for each GPU.
        progress: called by one thread at a time.
        meter: updated during the run, with the sums over all GPUs.

    Raises:
        Exception: the first error of a lane; the others end.
    """
    run = _SharedRun(plans, progress, meter or Meter(), len(lanes))
    threads = [
        threading.Thread(target=run.work, args=(number, lane), name=f"device-{number}")
        for number, lane in enumerate(lanes)
    ]
    for thread in threads:
        thread.start()
    try:
        yield from run.outcomes()
    finally:
        run.stopped.set()
        for thread in threads:
            thread.join()


class _StoppedError(Exception):
    """Ends a lane from within its call of `progress`."""


@dataclass(frozen=True, slots=True)
class _Ended:
    error: BaseException | None = None


class _SharedRun:
    """What the threads of `run_shared` have in common."""

    def __init__(
        self, plans: Sequence[CapturePlan], progress: VideoProgress | None, meter: Meter, num_lanes: int
    ) -> None:
        self.stopped = threading.Event()
        self._plans = plans
        self._numbers = {id(plan): number for number, plan in enumerate(plans)}
        self._to_begin = iter(plans)
        self._progress, self._meter = progress, meter
        self._meters = [Meter() for _ in range(num_lanes)]
        meter.queue_depth = lambda: sum(each.queue_depth() for each in self._meters)
        self._lock = threading.Lock()
        self._found: queue.SimpleQueue[CaptureOutcome | _Ended] = queue.SimpleQueue()

    def work(self, number: int, lane: Lane) -> None:
        """Run one lane to its end, in its thread."""
        error = None
        try:
            with closing(lane(self._share(), progress=self._report, meter=self._meters[number])) as outcomes:
                for outcome in outcomes:
                    self._found.put(outcome)
        except _StoppedError:
            pass
        except BaseException as caught:  # raised again in the caller's thread
            error = caught
        self._found.put(_Ended(error))

    def outcomes(self) -> Iterator[CaptureOutcome]:
        """Yield the outcomes in the order of the plans; raise the first error of a lane."""
        waiting: dict[int, CaptureOutcome] = {}
        num_running, following = len(self._meters), 0
        while num_running:
            found = self._found.get()
            if isinstance(found, _Ended):
                num_running -= 1
                if found.error is not None:
                    raise found.error
                continue
            self._add_up()
            waiting[self._numbers[id(found.plan)]] = found
            while following in waiting:
                yield waiting.pop(following)
                following += 1
        self._add_up()

    def _share(self) -> Iterator[CapturePlan]:
        while not self.stopped.is_set():
            with self._lock:
                plan = next(self._to_begin, None)
            if plan is None:
                return
            yield plan

    def _report(self, video: VideoInput, reached_seconds: float, claimed_seconds: float | None) -> None:
        if self.stopped.is_set():
            raise _StoppedError
        if self._progress is not None:
            with self._lock:
                self._progress(video, reached_seconds, claimed_seconds)

    def _add_up(self) -> None:
        for field in fields(Meter):
            if field.name != "queue_depth":
                total = sum(getattr(each, field.name) for each in self._meters)
                setattr(self._meter, field.name, total)
