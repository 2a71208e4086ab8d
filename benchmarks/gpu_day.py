"""All that needs a GPU, in one command and in order of worth; each step is a process with a time limit.

After every step the results so far are in --output as gpu_day.json and gpu_day.md: what a step printed as its
last line, its seconds, or why it gave nothing. A step that fails, or has nothing to run on, does not stop the
others. The machine needs the extras gpu and, for plans, tensorrt or tensorrt-bindings; steps of what is not
installed are listed as such. `--rehearse` runs every step on the emulated driver of the tests, with small
videos and a double of onnxruntime's CUDA provider: its figures mean nothing, its results have the same form.

    python benchmarks/gpu_day.py --bundle BUNDLE --bundle BUNDLE --video VIDEO
    python benchmarks/gpu_day.py --rehearse --output /tmp/rehearsal
    python benchmarks/gpu_day.py --steps machine nvdec        some of them
    python benchmarks/gpu_day.py --phase A --wheels wheels/   half of them, with packages from a folder
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from _common import RESULTS, machine

ROOT = Path(__file__).resolve().parents[1]
STEPS_PROGRAM = Path(__file__).with_name("_gpu_steps.py")

LIMITS = {
    "machine": 60,
    "memory_pycuda": 180,
    "memory_bindings": 180,
    "nvdec": 240,
    "pixels": 120,
    "verify": 300,
    "speed": 600,
    "memory": 120,
    "end_to_end": 300,
    "pytorch": 300,
    "plans": 1800,
}
"""Seconds that each step may take, in order of worth."""

PHASES = {
    "A": ("machine", "memory_pycuda", "memory_bindings", "nvdec", "pytorch", "plans"),
    "B": ("machine", "pixels", "verify", "speed", "memory", "end_to_end"),
}
"""Steps for machines that are lent in two calls with a limit on what a call may bring."""


@dataclass
class Outcome:
    """What became of a step: `done`, `nothing to run on`, `failed` or `too long`."""

    step: str
    outcome: str
    seconds: float
    results: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def main() -> None:
    """Run the steps, store after each, and end with exit code 5 where there is no GPU."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, action="append", default=[], help="of tsm-export [several]")
    parser.add_argument("--video", type=Path, help="1080p, for the end-to-end step [default: it is made]")
    parser.add_argument("--steps", nargs="+", choices=LIMITS, default=list(LIMITS), metavar="STEP")
    parser.add_argument(
        "--phase", choices=PHASES, help="A: what needs no large package; B: onnxruntime's CUDA"
    )
    parser.add_argument(
        "--wheels", type=Path, help="folder of wheels for the steps, installed without an index"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--rehearse", action="store_true", help="on the emulated driver, small")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.phase:
        options.steps = [step for step in options.steps if step in PHASES[options.phase]]
    with tempfile.TemporaryDirectory() as scratch:
        given = environment(options, Path(scratch))
        outcomes: list[Outcome] = []
        for step in options.steps:
            outcomes.append(run_step(step, given))
            write(outcomes, options)
            print(f"{step}: {outcomes[-1].outcome} after {outcomes[-1].seconds} s {outcomes[-1].reason}")
            if step == "machine" and outcomes[-1].outcome != "done":
                print("no step can run without a GPU; --rehearse needs none", file=sys.stderr)
                sys.exit(5)
    sys.exit(any(each.outcome in ("failed", "too long") for each in outcomes))


def install(wheels: Path, target: Path) -> None:
    """Install all wheels of a folder into another, which goes with the steps; no index is needed."""
    found = sorted(wheels.glob("*.whl"))
    if not found:
        sys.exit(f"{wheels}: holds no wheels")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "--target", target, *found], check=True)


def environment(options: argparse.Namespace, scratch: Path) -> dict[str, str]:
    """Return the environment of a step."""
    doubles = [str(ROOT / "tests" / "runtime" / folder) for folder in ("", "doubles")]
    paths = [*doubles, *filter(None, [os.environ.get("TSM_PYCUDA"), os.environ.get("PYTHONPATH")])]
    if options.wheels:
        install(options.wheels, scratch / "site")
        paths.insert(0, str(scratch / "site"))
    given = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "GPU_DAY_BUNDLES": os.pathsep.join(str(path.resolve()) for path in options.bundle),
        "GPU_DAY_VIDEO": str(options.video.resolve()) if options.video else "",
        "GPU_DAY_SCRATCH": str(scratch),
        "GPU_DAY_REHEARSE": "1" if options.rehearse else "",
    }
    if options.rehearse:
        build = ROOT / "tests" / "emulated_gpu" / "build.py"
        subprocess.run([sys.executable, build, scratch / "emulated"], check=True, env=given)
        given["LD_LIBRARY_PATH"] = str(scratch / "emulated")
        given["LD_PRELOAD"] = str(
            scratch / "emulated" / "libcuda.so.1"
        )  # pycuda, as built for tests, links none
    return given


def run_step(step: str, given: dict[str, str]) -> Outcome:
    """Run a step as a process; its last line of output is its results in JSON."""
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, STEPS_PROGRAM, step],
            env=given,
            capture_output=True,
            text=True,
            timeout=LIMITS[step],
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Outcome(step, "too long", LIMITS[step], reason=f"more than {LIMITS[step]} s")
    seconds = round(time.perf_counter() - started, 1)
    lines = done.stdout.strip().splitlines()
    if done.returncode == 5:
        return Outcome(step, "nothing to run on", seconds, reason=last_line(done.stderr))
    if done.returncode or not lines:
        return Outcome(step, "failed", seconds, reason=last_line(done.stderr) or f"exit {done.returncode}")
    return Outcome(step, "done", seconds, results=json.loads(lines[-1]))


def last_line(text: str) -> str:
    """Return the last line that is not empty, of bearable length."""
    return next((line.strip()[:300] for line in reversed(text.splitlines()) if line.strip()), "")


def write(outcomes: list[Outcome], options: argparse.Namespace) -> None:
    """Write what is known so far."""
    name = "gpu_day_rehearsal" if options.rehearse else "gpu_day"
    document = {
        "rehearsal": options.rehearse,
        "machine": machine(),
        "steps": [asdict(each) for each in outcomes],
    }
    (options.output / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    lines = ["| step | outcome | seconds | results |", "|---|---|---|---|"]
    for each in outcomes:
        found = "; ".join(f"{key}: {value}" for key, value in each.results.items()) or each.reason
        lines.append(f"| {each.step} | {each.outcome} | {each.seconds} | {found.replace('|', '/')} |")
    (options.output / f"{name}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
