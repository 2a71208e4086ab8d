"""tsm-serve under load, with locust as the client: latency, throughput, refusals, and whether a job is lost.

Two rows: as many clients as the service has places (one that runs, and the queue), and four times as many.
A client posts the demo video (its first five seconds are analysed), waits for the job and fetches the
result; after 429 it tries again a second later. `job` is the time from the post to the segments in hand.
Jobs that were accepted and gave no result are `lost`; those that the end of the measurement cut off are
counted apart.
Needs locust (`pip install locust`).

    python benchmarks/serve_load.py
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _common import store

DEMO = Path(__file__).parents[1] / "runtime" / "tsm_runtime" / "demo"
USER = Path(__file__).parent / "_serve_user.py"
QUEUE = 4


def main() -> None:
    """Measure both rows and store them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1, help="of the network")
    options = parser.parse_args()
    rows = [measure(times * (1 + QUEUE), options.seconds, options.threads) for times in (1, 4)]
    load = [round(value, 1) for value in os.getloadavg()]
    store("serve_load", {"queue": QUEUE, "workers": 1, "load_average_of_the_machine": load, "rows": rows})


def measure(users: int, seconds: int, threads: int) -> dict[str, Any]:
    """Return one row."""
    command = [sys.executable, "-m", "tsm_serve.commands.serve", str(DEMO / "bundle"), "--port", "0"]
    limits = ["--queue", str(QUEUE), "--threads", str(threads)]
    with subprocess.Popen([*command, *limits], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        address = service.stdout.readline().strip()
        try:
            row = run_locust(address, users, seconds)
        finally:
            service.send_signal(signal.SIGTERM)
    row["exit_code_of_the_service"] = service.returncode
    print(row, flush=True)
    return row


def run_locust(address: str, users: int, seconds: int) -> dict[str, Any]:
    """Run the clients and return what they saw."""
    with tempfile.TemporaryDirectory() as folder:
        account = Path(folder) / "account.json"
        environment = {
            **os.environ,
            "TSM_LOAD_VIDEO": str(DEMO / "video.mp4"),
            "TSM_LOAD_ACCOUNT": str(account),
        }
        length = ["--run-time", f"{seconds}s", "--stop-timeout", "120"]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "locust", "--locustfile", str(USER), "--host", address),
                *("--headless", "--users", str(users), "--spawn-rate", str(users), "--json", *length),
            ],
            capture_output=True,
            text=True,
            env=environment,
        )
        stats = {row["name"]: row for row in json.loads(done.stdout)}
        counted: dict[str, int] = json.loads(account.read_text())
    cut_off = counted["accepted"] - counted["done"] - counted["lost"]
    return {
        "users": users,
        "seconds": seconds,
        **counted,
        "cut_off": cut_off,
        "jobs_per_second": round(counted["done"] / seconds, 3),
        "milliseconds": {name: percentiles(row) for name, row in stats.items()},
        "failures": sum(row["num_failures"] for row in stats.values()),
    }


def percentiles(row: dict[str, Any]) -> dict[str, float]:
    """Return percentiles from locust's histogram of rounded milliseconds."""
    times = sorted((float(value), count) for value, count in row["response_times"].items())
    total = sum(count for _, count in times)
    found = {}
    for share in (50, 90, 99):
        reached = 0
        for value, count in times:
            reached += count
            if reached >= share / 100 * total:
                found[f"p{share}"] = value
                break
    return {**found, "n": total}


if __name__ == "__main__":
    main()
