"""The install command in messages, by where the installation came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tsm_runtime.commands import installing
from tsm_runtime.commands.installing import for_this_installation

ORIGINAL = installing.installed_from
TEXT = "no backend is installed: pip install 'tsm-tal[cpu]' (or 'tsm-tal[export,gpu]' on a CUDA machine)"


class Distribution:
    def __init__(self, stated: str | None) -> None:
        self.stated = stated

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self.stated


@pytest.mark.parametrize(
    ("stated", "first", "second"),
    [
        (
            '{"url": "file://FOLDER", "dir_info": {"editable": true}}',
            "-e 'FOLDER[cpu]'",
            "-e 'FOLDER[export,gpu]'",
        ),
        ('{"url": "file://FOLDER", "dir_info": {}}', "'FOLDER[cpu]'", "'FOLDER[export,gpu]'"),
        ('{"url": "file:///gone/tsm.whl", "archive_info": {}}', "'tsm-tal[cpu]'", "'tsm-tal[export,gpu]'"),
        ('{"url": "https://host/tsm.whl"}', "'tsm-tal[cpu]'", "'tsm-tal[export,gpu]'"),
        (None, "'tsm-tal[cpu]'", "'tsm-tal[export,gpu]'"),
    ],
)
def test_the_line_that_works_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: str | None, first: str, second: str
) -> None:
    folder = tmp_path / "a checkout"
    folder.mkdir()
    address = None if stated is None else stated.replace("FOLDER", str(folder).replace(" ", "%20"))
    monkeypatch.setattr("importlib.metadata.distribution", lambda _: Distribution(address))
    monkeypatch.setattr(installing, "installed_from", ORIGINAL.__wrapped__)
    said = for_this_installation(TEXT)
    assert f"pip install {first} (or {second} on".replace("FOLDER", str(folder)) in said


def test_other_text_stays() -> None:
    assert for_this_installation("v.mp4: no such file") == "v.mp4: no such file"
