"""What every benchmark stores beside its numbers: machine, versions, commit, command."""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

_PAUSE_SECONDS = 0.1
"""After a run onnxruntime's threads spin for 50 ms, and take a core from whatever comes next."""


def machine() -> dict[str, Any]:
    """Return processor, cores, versions and the commit the numbers were measured at."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: v for name in ("torch", "onnxruntime", "av", "numpy") if (v := _version(name))},
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
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(works), len(works)):
            time.sleep(_PAUSE_SECONDS)
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
