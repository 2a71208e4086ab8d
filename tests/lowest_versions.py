"""Prints the lowest allowed versions of the runtime's direct dependencies, as constraints for pip.

python tests/lowest_versions.py EXTRA...
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest(requirement: str) -> str:
    """Return a requirement as its lowest version.

    >>> lowest("av>=18,<19")
    'av==18'
    """
    name, _, bounds = requirement.partition(">=")
    if not bounds:
        raise ValueError(f"{requirement}: states no lowest version")
    return f"{name}=={bounds.partition(',')[0]}"


if __name__ == "__main__":
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = (project["optional-dependencies"][extra] for extra in sys.argv[1:])
    wanted = [*project["dependencies"], *(one for extra in extras for one in extra)]
    sys.stdout.writelines(f"{lowest(requirement)}\n" for requirement in wanted)
