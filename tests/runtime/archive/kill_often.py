"""Runs `tsm-run` in child processes and kills them at random moments: BUNDLE VIDEOS OUT KILLS SEED.

It loads the runtime once and forks, so that a run takes a fraction of a second. Prints how many runs were
killed and how often the archive was done from its beginning to its end.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import onnxruntime  # noqa: F401  # loaded once for all children

import tsm_runtime.commands.run_files  # noqa: F401
from tsm_runtime.commands.run import main


def begin(bundle: str, videos: str, out: Path, *more: str) -> int:
    """Begin a run in a child process and return its number."""
    number = os.fork()
    if number == 0:
        sys.argv = ["tsm-run", videos, "-m", bundle, "-o", f"{out}/", "-q", "--threads", "1", *more]
        try:
            main()
        except SystemExit as left:
            os._exit(int(left.code or 0))
        except BaseException:
            os._exit(99)
    return number


def results(out: Path) -> dict[str, bytes]:
    """Return the results in a folder by their names."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in out.rglob("*.json")
        if path.name[0] not in ".s"
    }


def run() -> None:
    bundle, videos, folder, kills, seed = (
        sys.argv[1],
        sys.argv[2],
        Path(sys.argv[3]),
        int(sys.argv[4]),
        int(sys.argv[5]),
    )
    rng = random.Random(seed)
    begun = time.monotonic()
    assert os.waitpid(begin(bundle, videos, folder / "undisturbed"), 0)[1] == 0
    undisturbed_seconds = time.monotonic() - begun
    expected = results(folder / "undisturbed")
    assert len(expected) >= 2
    num_killed = num_rounds = 0
    while num_killed < kills:
        out = folder / "out"
        while True:
            child = begin(bundle, videos, out, "--resume")
            time.sleep(rng.uniform(0, undisturbed_seconds))
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            there = results(out) if out.exists() else {}
            assert there.items() <= expected.items(), "a result that is not whole"
            if not os.WIFSIGNALED(status):
                assert os.waitstatus_to_exitcode(status) == 0
                break
            num_killed += 1
        assert results(out) == expected
        assert not list(out.rglob("*.tmp"))
        num_rounds += 1
        shutil.rmtree(out)
    sys.stdout.write(f"{num_killed} killed, {num_rounds} rounds\n")


if __name__ == "__main__":
    run()
