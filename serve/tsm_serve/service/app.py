"""The HTTP interface: access, answers to errors, health and metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from tsm_runtime._version import __version__
from tsm_runtime.errors import TsmError, UsageError
from tsm_serve.service.job_api import add_job_routes
from tsm_serve.service.jobs import QueueFullError, StoppingError
from tsm_serve.service.options import ForbiddenError
from tsm_serve.service.service import Service
from tsm_serve.service.stream_api import add_stream_routes
from tsm_serve.service.streams import TooManyStreamsError
from tsm_serve.service.uploads import TooLargeError

_OPEN_PATHS = frozenset({"/healthz", "/readyz"})


def service_app(service: Service) -> FastAPI:
    """Return the ASGI application of a service."""
    app = FastAPI(title="tsm-serve", version=__version__, redoc_url=None, docs_url=None)
    app.middleware("http")(_guard(service))
    app.exception_handler(TsmError)(_answer_error)
    add_job_routes(app, service)
    add_stream_routes(app, service)
    _add_health(app, service)
    return app


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Answer while the process lives."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> Response:
        """Answer 200 while jobs are taken."""
        try:
            service.jobs.require_room()
        except (QueueFullError, StoppingError) as error:
            return JSONResponse({"status": str(error)}, status_code=503)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics")
    async def metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


_Next = Callable[[Request], Awaitable[Response]]


def _guard(service: Service) -> Callable[[Request, _Next], Awaitable[Response]]:
    async def guard(request: Request, answer: _Next) -> Response:
        if request.url.path not in _OPEN_PATHS:
            if not service.options.admits(request.headers.get("authorization", "")):
                headers = {"WWW-Authenticate": "Bearer"}
                return JSONResponse({"error": "a bearer token is needed"}, status_code=401, headers=headers)
            if "origin" in request.headers:
                return JSONResponse({"error": "requests of web pages are refused"}, status_code=403)
        response = await answer(request)
        if response.status_code == 429:
            service.metrics.job_refused()
        return response

    return guard


_STATUS: tuple[tuple[type[TsmError], int], ...] = (
    (QueueFullError, 429),
    (TooManyStreamsError, 429),
    (StoppingError, 503),
    (TooLargeError, 413),
    (ForbiddenError, 403),
    (UsageError, 400),
)


async def _answer_error(_: Request, error: Exception) -> Response:
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    headers = {"Retry-After": "5"} if status in (429, 503) else {}
    return JSONResponse({"error": str(error)}, status_code=status, headers=headers)
