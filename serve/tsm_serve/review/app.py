"""The page's server: files of the page, the API below `/api/`, and the videos."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tsm_runtime.errors import RunError, TsmError, UsageError, VideoError
from tsm_serve.access import LocalAccess
from tsm_serve.review.entries import EntryEdit
from tsm_serve.review.hub import Hub
from tsm_serve.review.project import Project
from tsm_serve.review.proxies import Proxies
from tsm_serve.review.truth import ConflictError

STATIC = Path(str(files("tsm_serve") / "static" / "review"))
REPORT_ASSETS = Path(str(files("tsm_runtime.outputs.report") / "assets"))

_LOOK_SECONDS = 1.0
"""How often the truth file is checked for changes by other programs."""

_MOST_BYTES = 64_000_000
"""Of a request; an entry of 100,000 segments has some 10 MB."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:;"
    " media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _Save(msgspec.Struct, forbid_unknown_fields=True):
    base: str
    edit: EntryEdit
    who: str = ""


class _Names(msgspec.Struct, forbid_unknown_fields=True):
    labels: list[str] | None = None
    scenes: list[str] | None = None
    who: str = ""


def review_app(project: Project, hub: Hub, *, token: str, port: int, more: list[Route] | None = None) -> Any:
    """Return the ASGI application.

    Args:
        project: what is reviewed.
        hub: where the project's events are published.
        token: without which nothing is handed out.
        port: of the server.
        more: routes below `/api/` of other parts.
    """
    api = _Api(project, hub)
    routes = [
        Route("/", _page),
        Route("/api/project", api.project),
        Route("/api/videos", api.videos),
        Route("/api/video", api.video),
        Route("/api/video", api.save, methods=["PUT"]),
        Route("/api/names", api.names, methods=["PUT"]),
        Route("/api/times", api.times),
        Route("/api/agreement", api.agreement),
        Route("/api/proxy", api.proxy, methods=["POST"]),
        Route("/api/drafting", api.drafting),
        Route("/api/events", api.events),
        Route("/media", api.media),
        *(more or []),
        Mount("/base", StaticFiles(directory=REPORT_ASSETS)),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    access = Middleware(LocalAccess, token=token, port=port, protected=("/api/", "/media"))
    handlers: dict[Any, Any] = {TsmError: _answer_error}
    return Starlette(routes=routes, middleware=[access], exception_handlers=handlers, lifespan=api.lifespan)


class _Api:
    def __init__(self, project: Project, hub: Hub) -> None:
        self._project = project
        self._hub = hub
        self._proxies = Proxies(project.publish)
        self._stop = threading.Event()

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Watch the truth file and look up lengths while the server runs."""
        for work in (self._watch, lambda: self._project.probe_lengths(self._stop)):
            threading.Thread(target=work, daemon=True).start()
        yield
        self._stop.set()
        self._project.drafting.close()
        self._hub.close()

    def _watch(self) -> None:
        last = ""
        while not self._stop.wait(_LOOK_SECONDS):
            try:
                self._project.look_for_changes()
                fault = ""
            except TsmError as error:
                fault = str(error)
            if fault != last:
                self._project.publish({"kind": "fault", "message": fault})
                last = fault

    async def project(self, _: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._project.describe))

    async def videos(self, _: Request) -> Response:
        return JSONResponse({"videos": await run_in_threadpool(self._project.list_videos)})

    async def video(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._project.show, _id(request)))

    async def save(self, request: Request) -> Response:
        given = await _body(request, _Save)
        video_id = _id(request)
        try:
            shown = await run_in_threadpool(
                lambda: self._project.save(video_id, given.edit, base=given.base, who=given.who)
            )
        except ConflictError as error:
            current = await run_in_threadpool(self._project.show, video_id)
            return JSONResponse({"error": str(error), "current": current}, status_code=409)
        return JSONResponse(shown)

    async def names(self, request: Request) -> Response:
        given = await _body(request, _Names)
        for key, names in (("labels", given.labels), ("scenes", given.scenes)):
            if names is not None:
                await run_in_threadpool(self._project.save_names, key, names, given.who)
        return await self.project(request)

    async def times(self, request: Request) -> Response:
        video = self._project.video(_id(request))
        block = _number(request, "block")
        times = await run_in_threadpool(self._project.times.block, video.path, block)
        return JSONResponse({"block": block, "times": times})

    async def agreement(self, request: Request) -> Response:
        layer = request.query_params.get("layer", "")
        return JSONResponse(await run_in_threadpool(self._project.compare, _id(request), layer))

    async def proxy(self, request: Request) -> Response:
        video = self._project.video(_id(request))
        return JSONResponse(asdict(await run_in_threadpool(self._proxies.start, video)))

    async def drafting(self, _: Request) -> Response:
        return JSONResponse(asdict(self._project.drafting.state()))

    async def media(self, request: Request) -> Response:
        video = self._project.video(_id(request))
        path = self._proxies.ready(video) if request.query_params.get("proxy") else video.path
        if path is None or not path.is_file():
            raise HTTPException(404)
        return FileResponse(path, headers={"Cache-Control": "no-store"})

    async def events(self, _: Request) -> Response:
        return StreamingResponse(
            self._hub.events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )


async def _page(_: Request) -> Response:
    headers = {
        "Content-Security-Policy": _POLICY,
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return FileResponse(STATIC / "index.html", headers=headers)


def _id(request: Request) -> str:
    return request.query_params.get("id", "")


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(f"{name}={text!r}: expected a whole number, 0 or more")
    return int(text)


async def _body(request: Request, kind: type[Any]) -> Any:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > _MOST_BYTES:
            raise HTTPException(413)
    try:
        return msgspec.json.decode(bytes(data), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the request's body: {error}") from error


async def _answer_error(_: Request, error: Exception) -> Response:
    kinds = ((UsageError, 400), (VideoError, 422), (RunError, 507))
    status = next((code for kind, code in kinds if isinstance(error, kind)), 500)
    if str(error).startswith("no video "):
        status = 404
    return JSONResponse({"error": str(error)}, status_code=status)
