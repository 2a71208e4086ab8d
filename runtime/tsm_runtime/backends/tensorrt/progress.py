"""Progress and cancellation of a build."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tsm_runtime.terminal import printable, terminal_bars

BuildProgress = Callable[[str, int, int], None]
"""Called with a phase's name, how many of its steps are done, and how many it has. Phases contain others;
one is over when all its steps are done."""


class BuildWatch:
    """Forwards the progress of a build, and stops the build on ctrl-C or if the receiver fails.

    No exception leaves its methods, as they are called from C++: what stopped the build is raised by
    `raise_stop` once the library has come back.

    Args:
        report: receiver of the progress, or None.
    """

    def __init__(self, report: BuildProgress | None) -> None:
        self._report = report
        self._open: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._stop: BaseException | None = None

    @property
    def stopped(self) -> bool:
        """Whether the build is to end."""
        return self._stop is not None

    def start(self, phase: str, num_steps: int) -> None:
        """Record the beginning of a phase."""
        self._hand_on(phase, 0, num_steps)

    def step(self, phase: str, index: int) -> bool:
        """Record the end of a phase's step `index`; return False to cancel the build."""
        self._hand_on(phase, index + 1, self._open.get(phase, (0, index + 1))[1])
        return not self.stopped

    def finish(self, phase: str) -> None:
        """Record the end of a phase, which may have skipped steps."""
        done, num_steps = self._open.pop(phase, (0, 0))
        if done < num_steps:
            self._hand_on(phase, num_steps, num_steps)
            self._open.pop(phase, None)

    def raise_stop(self) -> None:
        """Raise what stopped the build, if something did."""
        if self._stop is not None:
            raise self._stop

    @contextmanager
    def catching_interrupts(self) -> Iterator[None]:
        """Let ctrl-C cancel the build while the block runs; a second one ends the process at once.

        Python would raise KeyboardInterrupt in whatever callback runs next, and so through C++. Outside the
        main thread, where signals do not arrive, this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._stop = KeyboardInterrupt()
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def _hand_on(self, phase: str, done: int, num_steps: int) -> None:
        self._open[phase] = (done, num_steps)
        if self._report is None or self.stopped:
            return
        try:
            with self._lock:
                self._report(phase, done, num_steps)
        except BaseException as error:
            self._stop = error


def progress_monitor(trt: Any, watch: BuildWatch) -> Any:
    """Return an IProgressMonitor of the library that reports to a `BuildWatch`."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            watch.finish(phase_name)

    return Monitor()


@contextmanager
def build_bar(name: str) -> Iterator[BuildProgress | None]:
    """Show a bar per running phase of a build while the block runs, and take them away afterwards.

    Yields:
        The receiver of `build_plan`'s progress; None where standard error is no terminal.
    """
    with terminal_bars(elapsed=True) as bar:
        if bar is None:
            yield None
            return
        tasks: dict[str, Any] = {}

        def report(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(printable(f"{name}: {phase}"), total=total)
            bar.update(tasks[phase], completed=done, total=total)
            if done >= total:
                bar.remove_task(tasks.pop(phase))

        yield report
