"""Access to a server on this machine: for its own pages, and for programs that have the token."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, QueryParams
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class LocalAccess:
    """Refuses requests of foreign pages and those without the token.

    A foreign `Host` (a name that was made to lead here) and a foreign `Origin` get 403; a path below one of
    `protected` without the token, as `?token=` or `Authorization: Bearer`, gets 401.

    Args:
        app: the application behind it.
        token: the secret.
        port: of the server, for its own addresses.
        protected: beginnings of paths.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int, protected: tuple[str, ...]) -> None:
        self._app = app
        self._token = token
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self._protected = protected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or pass it on."""
        if scope["type"] == "http" and (refusal := self._refusal(scope)) is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if headers.get("host", "") not in self._hosts:
            return _error(403, "requests to this host name are refused")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc not in self._hosts:
            return _error(403, f"requests of pages of {origin} are refused")
        if headers.get("sec-fetch-site") == "cross-site" and scope["path"] != "/":
            return _error(403, "requests of other sites are refused")
        if any(scope["path"].startswith(prefix) for prefix in self._protected) or scope["path"] == "/":
            given = QueryParams(scope["query_string"]).get("token") or _bearer(headers)
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                return _error(401, "the token is missing or wrong; open the address that the command printed")
        return None


def _bearer(headers: Headers) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status)
