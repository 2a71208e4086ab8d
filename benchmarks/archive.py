"""`tsm-run` on an archive: local, resumed, sharded, isolated, and on Ray with one and two workers.

Draws --short videos of a second and --long of a minute (a moving figure, 320 x 240, H.264), then runs each
way in processes of its own, in turns, on all videos and on the first alone. Each process has one model
thread, so that two take two cores. Rows hold medians of --rounds in seconds: `wall` and `cpu` of a whole run;
`wall_more` and `cpu_more` without what a run of one video takes, so without start-up. `cpu` counts all
processes of a way; those of the Ray cluster by samples of five a second.

Overheads are medians of the ratios within a round: `isolated` over local, `ray_1` (one worker) over local,
`ray_2` (two workers) over two shards at once; `ray_scale` is one worker over two. They come as `whole` runs
and `more` (without start-up). The last line is one JSON object.

    python benchmarks/archive.py --model BUNDLE
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from _common import store

from tsm_runtime.bundle.finding import find_bundle

RUN = "from tsm_runtime.commands.run import main; main()"
RATE = 25


def main() -> None:
    """Draw, run, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="bundle; default as tsm-run")
    parser.add_argument("--short", type=int, default=200)
    parser.add_argument("--long", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ray", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    bundle = find_bundle(options.model)[0].absolute()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, count, seconds in (("long", options.long, 60.0), ("short", options.short, 1.0)):
            videos = folder / kind
            draw_all(videos, count, seconds)
            rows.append(compare(kind, videos, bundle, options.rounds, ray=options.ray))
            rows[-1] |= {"videos": count, "seconds": seconds}
    store("archive", {"model": bundle.name, "rounds": options.rounds, "rows": rows})


def draw_all(folder: Path, count: int, seconds: float) -> None:
    """Draw one video and copy it, with another name each time."""
    folder.mkdir()
    draw(folder / "v0000.mp4", seconds)
    data = (folder / "v0000.mp4").read_bytes()
    for number in range(1, count):
        (folder / f"v{number:04d}.mp4").write_bytes(data)


def draw(path: Path, seconds: float) -> None:
    """Draw a bright square that moves over noise."""
    rng = np.random.default_rng(1)
    ground = rng.integers(0, 90, (240, 320, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(round(seconds * RATE)):
            picture = ground.copy()
            x, y = 3 * number % 260, 2 * number % 180
            picture[y : y + 60, x : x + 60] = 230
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())


@dataclass(frozen=True)
class Cost:
    """Wall and processor seconds of one run, or a difference of two."""

    wall: float
    cpu: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall - other.wall, self.cpu - other.cpu)


Costs = dict[str, list[Cost]]
"""By way, a cost for each round."""


def compare(kind: str, videos: Path, bundle: Path, rounds: int, *, ray: bool) -> dict[str, Any]:
    """Run all ways in turns, on all videos and on one; return their medians and ratios."""
    whole: Costs = {}
    start: Costs = {}
    for number in range(rounds):
        for costs, source in ((start, videos / "v0000.mp4"), (whole, videos)):
            out = videos.with_name(f"{kind}-{number}-{source.stem}")
            for way, cost in one_round(source, out, bundle, ray=ray):
                costs.setdefault(way, []).append(cost)
                print(kind, source.name, way, cost, file=sys.stderr, flush=True)
    more = {way: [a - b for a, b in zip(whole[way], start[way], strict=True)] for way in whole}
    ways = {
        way: medians(whole[way]) | {f"{name}_more": value for name, value in medians(more[way]).items()}
        for way in whole
    }
    return {"kind": kind, "ways": ways, "whole": overheads(whole), "more": overheads(more)}


def one_round(source: Path, out: Path, bundle: Path, *, ray: bool) -> Iterator[tuple[str, Cost]]:
    """Run each way once on a video or a folder; yield way and cost."""

    def command(way: str, *more: str) -> list[str]:
        base = [sys.executable, "-c", RUN, str(source), "-m", str(bundle), "-o", f"{out}-{way}/", "-q"]
        return [*base, "--threads", "1", *more]

    limits = ("--isolate", "--memory-limit", "4096", "--time-limit", "600")
    shards = [command("shards", "--shard", f"{number}/2") for number in (1, 2)]
    yield "local", timed(lambda: together([command("local")]))
    yield "isolated", timed(lambda: together([command("isolated", *limits)]))
    yield "resumed", timed(lambda: together([command("local", "--resume")]))
    yield "two shards at once", timed(lambda: together(shards))
    for workers in (1, 2) if ray else ():
        with cluster() as address:
            on_ray = command(f"ray{workers}", "--ray", address, "--workers", str(workers))
            yield f"ray, {workers} workers", timed(lambda given=on_ray: together([given]))  # type: ignore[misc]


def together(commands: Sequence[Sequence[str]]) -> None:
    """Run commands at once; each must end well."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    children = [subprocess.Popen(command, env=environment) for command in commands]
    if any(child.wait() for child in children):
        raise SystemExit("a run failed")


def timed(work: Callable[[], None]) -> Cost:
    """Return the cost of some work and of all descendants of this process meanwhile."""
    sampler = Sampler()
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with sampler:
        work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.perf_counter() - begun, cpu + sampler.seconds)


class Sampler:
    """Adds up the processor time of a Ray cluster's processes, which no `wait` counts."""

    def __init__(self) -> None:
        self._used: dict[tuple[int, float], tuple[float, float]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def __enter__(self) -> None:
        self._sample()
        self._used = {key: (last, last) for key, (_, last) in self._used.items()}
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._sample()

    @property
    def seconds(self) -> float:
        """Processor seconds between entry and exit."""
        return sum(last - first for first, last in self._used.values())

    def _repeat(self) -> None:
        while not self._over.wait(0.2):
            self._sample()

    def _sample(self) -> None:
        for top in psutil.Process().children():
            if is_of_ray(top):
                for process in (top, *top.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        key, times = (process.pid, process.create_time()), process.cpu_times()
                        first, _ = self._used.get(key, (0.0, 0.0))
                        self._used[key] = first, times.user + times.system


def is_of_ray(process: psutil.Process) -> bool:
    """Return whether a child is part of a Ray cluster, not a run of `tsm-run`."""
    try:
        return any("/ray/" in part for part in process.cmdline())
    except psutil.Error:
        return False


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    """Yield the address of a cluster of two nodes with one core each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # on a busy machine
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 100 * 2**20}
    head = {"num_cpus": 0, "include_dashboard": False, **memory}
    begun = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            begun.add_node(num_cpus=1, **memory)
        yield begun.address
    finally:
        begun.shutdown()


def medians(found: Sequence[Cost]) -> dict[str, float]:
    """Return medians of wall and processor seconds."""
    return {
        "wall": round(statistics.median(cost.wall for cost in found), 2),
        "cpu": round(statistics.median(cost.cpu for cost in found), 2),
    }


def overheads(costs: Costs) -> dict[str, float]:
    """Return what is read from the times; see the top of this file."""
    over = {"isolated": ("isolated", "local")}
    if "ray, 1 workers" in costs:
        over |= {
            "ray_1": ("ray, 1 workers", "local"),
            "ray_2": ("ray, 2 workers", "two shards at once"),
            "ray_scale": ("ray, 1 workers", "ray, 2 workers"),
        }
    read = {}
    for name, (way, base) in over.items():
        for what in ("wall", "cpu"):
            pairs = zip(costs[way], costs[base], strict=True)
            ratio = statistics.median(getattr(a, what) / getattr(b, what) for a, b in pairs)
            read[f"{name}_{what}"] = round(ratio if name == "ray_scale" else ratio - 1, 3)
    return read


if __name__ == "__main__":
    main()
