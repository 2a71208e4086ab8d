"""The install command that works for this installation: from a checkout, a wheel file, or an index."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_REQUIREMENT = re.compile(r"(?P<upgrade>--upgrade )?'tsm-tal\[(?P<extras>[\w,-]+)\]'")


def for_this_installation(text: str) -> str:
    """Return a message whose `'tsm-tal[extras]'` name the folder or file that this installation came from.

    >>> for_this_installation("pip install 'tsm-tal[cpu]'")  # of a wheel from an index
    "pip install 'tsm-tal[cpu]'"
    """
    if "'tsm-tal[" not in text:
        return text
    editable, source = installed_from()
    flag = "-e " if editable else ""
    return _REQUIREMENT.sub(
        lambda found: f"{found['upgrade'] or ''}{flag}'{source}[{found['extras']}]'", text
    )


@cache
def installed_from() -> tuple[bool, str]:
    """Return whether the installation is editable, and the folder, file or name to install from (PEP 610)."""
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import unquote, urlsplit

    import msgspec

    try:
        stated = distribution("tsm-tal").read_text("direct_url.json")
    except PackageNotFoundError:
        stated = None
    if stated is None:
        return False, "tsm-tal"
    origin = msgspec.json.decode(stated)
    path = Path(unquote(urlsplit(origin.get("url", "")).path))
    if not origin.get("url", "").startswith("file:") or not path.exists():
        return False, "tsm-tal"
    return bool(origin.get("dir_info", {}).get("editable", False)), str(path)
