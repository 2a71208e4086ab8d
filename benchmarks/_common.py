"""What every benchmark shares: times, and what is stored beside them (machine, versions, commit, command)."""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

_Name = TypeVar("_Name")

RESULTS = Path(os.environ.get("TSM_BENCHMARK_RESULTS", Path(__file__).parent / "results"))

_PACKAGES = (
    *("torch", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx-cu13", "pycuda"),
    *("av", "numpy"),
)


@dataclass(frozen=True)
class Times:
    """Wall and processor seconds of some repetitions.

    Processor time is that of all threads of this process: other programs on the machine disturb it less.
    """

    wall: Sequence[float]
    cpu: Sequence[float]

    @property
    def wall_median(self) -> float:
        """Median wall seconds."""
        return statistics.median(self.wall)

    @property
    def cpu_median(self) -> float:
        """Median processor seconds."""
        return statistics.median(self.cpu)

    def __add__(self, other: Times) -> Times:
        """Return the repetitions of both, one after the other."""
        return Times([*self.wall, *other.wall], [*self.cpu, *other.cpu])

    def summary(self) -> dict[str, float]:
        """Return median, 10th and 90th percentile of the wall seconds, and the median processor seconds."""
        tenths = statistics.quantiles(self.wall, n=10, method="inclusive") if len(self.wall) > 1 else []
        low, high = (tenths[0], tenths[-1]) if tenths else (self.wall[0], self.wall[0])
        values = {"median": self.wall_median, "p10": low, "p90": high, "cpu": self.cpu_median}
        return {name: round(value, 5) for name, value in values.items()}


def measure(work: Callable[[], object], runs: int, warm_up: int = 1) -> Times:
    """Run some work a few times for nothing, then `runs` times with the clock."""
    for _ in range(warm_up):
        work()
    wall, cpu = [], []
    for _ in range(runs):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - wall_start)
        cpu.append(time.process_time() - cpu_start)
    return Times(wall, cpu)


def measure_in_turns(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Run each work once for nothing, then `rounds` times with the clock, in random order within a round.

    Entry i of all times is from the same minute, so that ratios within a round can be taken: the speed of a
    shared machine changes by more than what is looked for.
    """
    for work in works.values():
        work()
    found: dict[str, Times] = {name: Times([], []) for name in works}
    for name in turns(works, rounds):
        found[name] = found[name] + measure(works[name], 1, warm_up=0)
    return found


def turns(names: Iterable[_Name], rounds: int) -> Iterator[_Name]:
    """Yield all names in every round, in random order; each after a pause, alone as it is in deployment."""
    order, names = random.Random(0), list(names)
    for _ in range(rounds):
        for name in order.sample(names, len(names)):
            time.sleep(_PAUSE_SECONDS)
            yield name


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


_PAUSE_SECONDS = 0.1
"""After a run onnxruntime's threads spin for 50 ms, and take a core from whatever comes next."""


def machine() -> dict[str, Any]:
    """Return processor, cores, versions and the commit the numbers were measured at."""
    return {
        "processor": _processor(),
        "cores": num_cores(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": {name: v for name in _PACKAGES if (v := _version(name))},
        "commit": _commit(),
    }


def store(name: str, results: dict[str, Any]) -> None:
    """Write results/<name>.json with machine and command, and print one JSON object as the last line."""
    document = {"command": " ".join(["python", *sys.argv]), "machine": machine(), **results}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


def in_turns(works: Mapping[str, Callable[[], object]], rounds: int, runs: int = 5) -> dict[str, list[float]]:
    """Return the seconds per run of each work in each round, so that ratios within a round can be taken.

    In a round each work takes its turn, in random order and alone as it is in deployment: after the other's
    threads have gone to sleep, once for nothing, because the other's weights fill the caches, then `runs`
    times.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for name in turns(works, rounds):
        works[name]()
        started = time.perf_counter()
        for _ in range(runs):
            works[name]()
        seconds[name].append((time.perf_counter() - started) / runs)
    return seconds


def ratios(seconds: Mapping[str, list[float]], name: str, base: str) -> list[float]:
    """Return [first quartile, median, third quartile] over rounds of one work's time by another's."""
    quotients = [a / b for a, b in zip(seconds[name], seconds[base], strict=True)]
    return [round(value, 4) for value in statistics.quantiles(quotients, n=4)]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
