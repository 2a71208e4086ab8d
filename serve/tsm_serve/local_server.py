"""A socket on this machine, and the server on it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from tsm_runtime.errors import UsageError

_GRACE_SECONDS = 2


def open_socket(host: str, port: int, *, next_free: int = 0) -> socket.socket:
    """Return a listening socket.

    Args:
        host: address to listen on.
        port: 0: any free one.
        next_free: how many following ports are tried where this one is in use.

    Raises:
        UsageError: the port is in use or not allowed.
    """
    for candidate in range(port, port + next_free + 1):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, candidate))
            made.listen(128)
        except (OSError, OverflowError) as error:
            made.close()
            reason = getattr(error, "strerror", None) or str(error)
            failure = UsageError(f"--port {candidate}: {reason}; choose another --port")
        else:
            return made
    raise failure


def serve(
    app: Any,
    listening: socket.socket,
    on_start: Callable[[], None],
    drain: Callable[[], None] | None = None,
) -> None:
    """Serve an ASGI application on a socket until the process is interrupted or terminated.

    Args:
        app: the application.
        listening: where requests come in.
        on_start: called before the first request is answered.
        drain: called in a thread at the first signal, while requests are still answered; the server ends when
            it returns, or at the second signal.
    """
    import uvicorn

    class Server(uvicorn.Server):
        draining = False

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if drain is None or self.draining:
                super().handle_exit(sig, frame)
                return
            self.draining = True
            threading.Thread(target=self._drain, name="drain", daemon=True).start()

        def _drain(self) -> None:
            try:
                if drain is not None:
                    drain()
            finally:
                self.should_exit = True

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=_GRACE_SECONDS, lifespan="on"
    )
    on_start()
    Server(config).run(sockets=[listening])
