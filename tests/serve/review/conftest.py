"""Fixtures of the review page's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from reviewing import ReviewBrowser, Server, StartServer


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    servers: list[Server] = []

    def start(*arguments: object) -> Server:
        given = [*arguments, *(() if "--port" in arguments else ("--port", "0"))]
        servers.append(Server(*given, environment={"XDG_CACHE_HOME": str(tmp_path / "cache")}))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def review_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewBrowser]:
    opened = ReviewBrowser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.driver.quit()
