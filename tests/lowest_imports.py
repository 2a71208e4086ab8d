"""Imports every module of the installed runtime and shows the help of each of its commands."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import subprocess
import sys
from pathlib import Path

import tsm_runtime


def main() -> None:
    """Raise the first error."""
    names = [module.name for module in pkgutil.walk_packages(tsm_runtime.__path__, "tsm_runtime.")]
    for name in names:
        importlib.import_module(name)
    commands = [
        script.name
        for script in importlib.metadata.entry_points(group="console_scripts")
        if script.value.startswith("tsm_runtime.")
    ]
    for command in commands:
        path = Path(sys.executable).with_name(command)
        subprocess.run([path, "--help"], check=True, stdout=subprocess.DEVNULL)
    sys.stdout.write(f"{len(names)} modules and {len(commands)} commands load\n")


if __name__ == "__main__":
    main()
