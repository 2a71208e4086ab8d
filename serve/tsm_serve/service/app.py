"""The HTTP interface: jobs, results, models, streams, health and numbers."""

from __future__ import annotations

import asyncio
import hmac
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Query, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from tsm_runtime._version import __version__
from tsm_runtime.errors import TsmError, UsageError
from tsm_serve.service.jobs import ENDED, Job, QueueFullError, StoppingError
from tsm_serve.service.options import ForbiddenError
from tsm_serve.service.representations import MEDIA_TYPES, choose_type, represent
from tsm_serve.service.service import Service, describe_job, describe_stream
from tsm_serve.service.streams import Stream, TooManyStreamsError
from tsm_serve.service.uploads import TooLargeError, read_posted

_OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_POLL_SECONDS = 1.0
_HEARTBEAT_SECONDS = 15.0

_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "model": {"type": "string"},
                        "id": {"type": "string"},
                        "start": {"type": "number"},
                        "end": {"type": "number"},
                        "min_score": {"type": "number"},
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["path"],
                    "properties": {"path": {"type": "string"}, "model": {"type": "string"}},
                }
            },
        },
    }
}


def service_app(service: Service) -> FastAPI:
    """Return the ASGI application of a service."""
    app = FastAPI(title="tsm-serve", version=__version__, redoc_url=None, docs_url=None)
    app.middleware("http")(_guard(service))
    app.exception_handler(TsmError)(_answer_error)
    _add_jobs(app, service)
    _add_streams(app, service)
    _add_health(app, service)
    return app


# --- jobs -------------------------------------------------------------------------------------------


def _add_jobs(app: FastAPI, service: Service) -> None:
    @app.post("/v1/jobs", status_code=202, openapi_extra=_UPLOAD)
    async def create(request: Request) -> Response:
        """Queue a video: a form with a file, the video as the body itself, or JSON with a path."""
        service.jobs.require_room()
        folder = service.jobs.new_folder()
        try:
            posted = await read_posted(request, folder, service.options)
            job = await run_in_threadpool(service.submit, posted, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shown = describe_job(job)
        return JSONResponse(shown, status_code=202, headers={"Location": shown["links"]["self"]})

    @app.get("/v1/jobs")
    async def all_jobs() -> dict[str, Any]:
        """List the jobs that are not forgotten."""
        return {"jobs": [describe_job(job) for job in service.jobs.all()]}

    @app.get("/v1/jobs/{job_id}")
    async def show(job_id: str, wait: Annotated[float, Query(ge=0, le=60)] = 0) -> dict[str, Any]:
        """Show a job; `wait`: answer as soon as it has ended, at the latest after so many seconds."""
        job = _job(service, job_id)
        end = asyncio.get_running_loop().time() + wait
        while job.state not in ENDED and (left := end - asyncio.get_running_loop().time()) > 0:
            await run_in_threadpool(service.jobs.wait, job, job.changes, min(left, 1.0))
        return describe_job(job)

    @app.get("/v1/jobs/{job_id}/result", responses={200: {"content": {kind: {} for kind in MEDIA_TYPES}}})
    async def result(job_id: str, accept: Annotated[str, Header()] = "*/*") -> Response:
        """Return the segments, in the format that Accept names."""
        job = _job(service, job_id)
        if job.state == "failed":
            raise HTTPException(422, job.error)
        if job.result is None:
            raise HTTPException(409, f"the job is {job.state}")
        media_type = choose_type(accept)
        if media_type is None:
            raise HTTPException(406, f"there are {', '.join(MEDIA_TYPES)}")
        bundle = service.models[job.work.model]
        about = {"bundles": [bundle.manifest_sha256], "tsm-tal": __version__}
        content = await run_in_threadpool(represent, job.result, media_type, about)
        service.jobs.note_fetched(job)
        return Response(content, media_type=media_type, headers={"Vary": "Accept"})

    @app.get("/v1/jobs/{job_id}/events", response_class=StreamingResponse)
    async def events(job_id: str) -> Response:
        """Progress as server-sent events, the last of which is the ended job."""
        return _event_stream(_job_events(service, _job(service, job_id)))

    @app.delete("/v1/jobs/{job_id}")
    async def cancel(job_id: str) -> dict[str, Any]:
        """End a job."""
        job = _job(service, job_id)
        await run_in_threadpool(service.jobs.cancel, job)
        return describe_job(job)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """List the models."""
        return {"models": service.describe_models()}


def _job(service: Service, job_id: str) -> Job:
    job = service.jobs.get(job_id)
    if job is None:
        raise HTTPException(404, f"no job {job_id!r}")
    return job


async def _job_events(service: Service, job: Job) -> AsyncIterator[str]:
    changes, silent = -1, 0.0
    while job.state not in ENDED or changes != job.changes:
        now = await run_in_threadpool(service.jobs.wait, job, changes, _POLL_SECONDS)
        if now != changes:
            yield _event("job", describe_job(job))
            changes, silent = now, 0.0
        elif service.jobs.stopping and job.state == "queued":
            return  # it is taken up by the next start
        elif (silent := silent + _POLL_SECONDS) >= _HEARTBEAT_SECONDS:
            yield ": still here\n\n"
            silent = 0.0


# --- streams ----------------------------------------------------------------------------------------


def _add_streams(app: FastAPI, service: Service) -> None:
    @app.post("/v1/streams", status_code=201)
    async def start(request: Request) -> dict[str, Any]:
        """Watch a source: JSON with `source` and, where there are several models, `model`."""
        try:
            body = json.loads(await request.body())
            source, name = str(body["source"]), body.get("model")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError('expected JSON with "source"') from error
        allowed = service.options.allowed_source(source)
        return describe_stream(service.streams.start(allowed, service.model_name(name)))

    @app.get("/v1/streams")
    async def all_streams() -> dict[str, Any]:
        """List the streams."""
        return {"streams": [describe_stream(stream) for stream in service.streams.all()]}

    @app.delete("/v1/streams/{stream_id}")
    async def stop(stream_id: str) -> dict[str, Any]:
        """End a stream; its open segments are closed and reported."""
        stream = _stream(service, stream_id)
        stream.stop.set()
        return describe_stream(stream)

    @app.get("/v1/streams/{stream_id}/events", response_class=StreamingResponse)
    async def events(stream_id: str) -> Response:
        """Events as server-sent events, from the oldest that is kept."""

        async def lines() -> AsyncIterator[str]:
            async for event in _stream_events(service, _stream(service, stream_id)):
                yield _event(str(event["event"]), event)

        _stream(service, stream_id)
        return _event_stream(lines())

    @app.websocket("/v1/streams/{stream_id}/ws")
    async def websocket(socket: WebSocket, stream_id: str) -> None:
        stream = service.streams.get(stream_id)
        if stream is None or not _has_token(service, socket.headers.get("authorization", "")):
            await socket.close(1008)
            return
        await socket.accept()
        try:
            async for event in _stream_events(service, stream):
                await socket.send_json(event)
            await socket.close()
        except WebSocketDisconnect:
            return


def _stream(service: Service, stream_id: str) -> Stream:
    stream = service.streams.get(stream_id)
    if stream is None:
        raise HTTPException(404, f"no stream {stream_id!r}")
    return stream


async def _stream_events(service: Service, stream: Stream) -> AsyncIterator[dict[str, Any]]:
    number, ended = 0, False
    while not ended:
        events, number, ended = await run_in_threadpool(service.streams.wait, stream, number, 1.0)
        for event in events:
            yield event
    if stream.error:
        yield {"event": "error", "message": stream.error}


# --- health -----------------------------------------------------------------------------------------


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
        """Numbers in Prometheus' text format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


# --- parts ------------------------------------------------------------------------------------------

_Next = Callable[[Request], Awaitable[Response]]


def _guard(service: Service) -> Callable[[Request, _Next], Awaitable[Response]]:
    async def guard(request: Request, answer: _Next) -> Response:
        if request.url.path not in _OPEN_PATHS:
            if not _has_token(service, request.headers.get("authorization", "")):
                headers = {"WWW-Authenticate": "Bearer"}
                return JSONResponse({"error": "a bearer token is needed"}, status_code=401, headers=headers)
            if "origin" in request.headers:
                return JSONResponse({"error": "requests of web pages are refused"}, status_code=403)
        response = await answer(request)
        if response.status_code == 429:
            service.metrics.job_refused()
        return response

    return guard


def _has_token(service: Service, header: str) -> bool:
    wanted = service.options.token
    return not wanted or hmac.compare_digest(header.encode(), f"Bearer {wanted}".encode())


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


def _event(kind: str, value: object) -> str:
    return f"event: {kind}\ndata: {json.dumps(value)}\n\n"


def _event_stream(lines: AsyncIterator[str]) -> Response:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines, media_type="text/event-stream", headers=headers)
