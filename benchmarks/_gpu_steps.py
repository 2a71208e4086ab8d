"""The steps of gpu_day.py, a process each: `python _gpu_steps.py STEP` prints its results as JSON.

Exit code 5: what the step needs is not on this machine; the last line on standard error says what.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any

from _gpu_common import REHEARSE, ROOT, NotHereError, bundles, require
from _gpu_decoding import nvdec, pixels
from _gpu_models import end_to_end, memory, plans, pytorch, speed

from tsm_runtime.backends.cuda.gpu import find_gpu
from tsm_runtime.errors import BackendError


def machine() -> dict[str, Any]:
    """GPU and driver."""
    gpu = find_gpu()
    found: dict[str, Any] = {"gpu": gpu.name, "compute_capability": gpu.compute_capability}
    query = [
        "nvidia-smi",
        "--query-gpu=driver_version,memory.total,mig.mode.current",
        "--format=csv,noheader",
    ]
    with contextlib.suppress(OSError):
        found["nvidia_smi"] = subprocess.run(
            query, capture_output=True, text=True, check=False
        ).stdout.strip()
    return found


def memory_pycuda() -> dict[str, Any]:
    """The tests of the TensorRT runner over pycuda."""
    return _device_tests("pycuda")


def memory_bindings() -> dict[str, Any]:
    """The same over cuda.bindings."""
    return _device_tests("bindings")


def _device_tests(library: str) -> dict[str, Any]:
    require({"pycuda": "pycuda.compiler", "bindings": "cuda.bindings.driver"}[library])
    real = ROOT / "tests" / "runtime" / "backends" / "test_tensorrt_gpu.py"
    tests = ROOT / "tests" / "emulated_gpu" / "checks" / "runner.py" if REHEARSE else real
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", tests, "-k", library]
    given = {**os.environ, "TSM_REQUIRE_GPU": "1"}
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:])
    return {"tests": done.stdout.count("."), "library": library}


def verify() -> dict[str, Any]:
    """tsm-verify of each bundle with everything that is installed."""
    found: dict[str, Any] = {}
    for bundle in bundles():
        command = [sys.executable, "-c", "from tsm_runtime.commands.verify import main; main()"]
        more = [bundle.path, "--backend", "all", "--json", "--no-write", "--quiet"]
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        report = json.loads(done.stdout or "{}")
        found[bundle.path.name] = {
            "exit": done.returncode,
            "compared": report.get("compared"),
            "said": done.stderr[-200:],
        }
    return found


STEPS = (
    *(machine, memory_pycuda, memory_bindings, nvdec, pixels, verify),
    *(speed, memory, end_to_end, pytorch, plans),
)


def main(step: str) -> None:
    """Run a step."""
    try:
        results = {function.__name__: function for function in STEPS}[step]()
    except (NotHereError, BackendError) as error:
        print(str(error), file=sys.stderr)
        sys.exit(5)
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
