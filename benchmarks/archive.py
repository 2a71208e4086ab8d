"""`tsm-run` on an archive: local, resumed, sharded, isolated, and on Ray with one and two workers.

Draws --short videos of a second and --long of a minute (a moving figure, 320 x 240, H.264), then runs each
way in processes of its own, in turns. Each process has one model thread, so that two take two cores. `wall`
and `cpu` are medians of --rounds in seconds, start-up included; `cpu` counts all processes of a way but those
of Ray, whose cluster runs before the clock does. Read `isolated_cpu_overhead` and `isolated_wall_overhead`
(over local), `ray_overhead_1` (one worker over local), `ray_overhead_2` (two workers over two shards at once)
and `ray_scale` (one worker over two). The last line is one JSON object.

    python benchmarks/archive.py --model BUNDLE
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
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
            rows.append(compare(kind, videos, folder, bundle, options.rounds, ray=options.ray))
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


def compare(kind: str, videos: Path, folder: Path, bundle: Path, rounds: int, *, ray: bool) -> dict[str, Any]:
    """Run all ways in turns; return their medians and ratios."""
    times: dict[str, list[tuple[float, float]]] = {}

    def run(way: str, *commands: Sequence[str]) -> None:
        times.setdefault(way, []).append(timed(lambda: together(commands)))
        print(kind, way, times[way][-1], file=sys.stderr, flush=True)

    for number in range(rounds):

        def command(way: str, *more: str, number: int = number) -> list[str]:
            out = folder / f"{kind}-{way}-{number}"
            base = [sys.executable, "-c", RUN, str(videos), "-m", str(bundle), "-o", f"{out}/", "-q"]
            return [*base, "--threads", "1", *more]

        run("local", command("local"))
        run("isolated", command("isolated", "--isolate", "--memory-limit", "4096", "--time-limit", "600"))
        run("resumed", command("local", "--resume"))
        run("two shards at once", *(command("shards", "--shard", f"{n}/2") for n in (1, 2)))
        if ray:
            with_cluster(
                lambda address: run("ray, 1 worker", command("ray1", "--ray", address, "--workers", "1"))
            )
            with_cluster(
                lambda address: run("ray, 2 workers", command("ray2", "--ray", address, "--workers", "2"))
            )
    return {"kind": kind, **ratios({way: medians(found) for way, found in times.items()})}


def together(commands: Sequence[Sequence[str]]) -> None:
    """Run commands at once; each must end well."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    children = [subprocess.Popen(command, env=environment) for command in commands]
    if any(child.wait() for child in children):
        raise SystemExit("a run failed")


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Return wall and processor seconds of some work and the processes that it waits for."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun, cpu


def with_cluster(work: Callable[[str], None]) -> None:
    """Do some work beside a cluster of two nodes with one core each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # on a busy machine
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 100 * 2**20}
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory}
    )
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, **memory)
        work(cluster.address)
    finally:
        cluster.shutdown()


def medians(found: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return medians of wall and processor seconds."""
    return {
        name: round(statistics.median(entry[place] for entry in found), 2)
        for place, name in enumerate(("wall", "cpu"))
    }


def ratios(ways: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return the times and what is read from them."""
    wall = {way: values["wall"] for way, values in ways.items()}
    read = {
        "isolated_cpu_overhead": ways["isolated"]["cpu"] / ways["local"]["cpu"] - 1,
        "isolated_wall_overhead": wall["isolated"] / wall["local"] - 1,
    }
    if "ray, 1 worker" in wall:
        read |= {
            "ray_overhead_1": wall["ray, 1 worker"] / wall["local"] - 1,
            "ray_overhead_2": wall["ray, 2 workers"] / wall["two shards at once"] - 1,
            "ray_scale": wall["ray, 1 worker"] / wall["ray, 2 workers"],
        }
    return {"ways": ways, **{name: round(value, 3) for name, value in read.items()}}


if __name__ == "__main__":
    main()
