"""Routes of jobs, their results, and models."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from tsm_runtime._version import __version__
from tsm_serve.service.event_stream import event_stream, event_text
from tsm_serve.service.jobs import ENDED, Job
from tsm_serve.service.representations import MEDIA_TYPES, choose_type, represent
from tsm_serve.service.service import Service, describe_job
from tsm_serve.service.uploads import read_posted

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


def add_job_routes(app: FastAPI, service: Service) -> None:
    """Add the routes below `/v1/jobs`, and `/v1/models`."""

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

    _add_outcome_routes(app, service)


def _add_outcome_routes(app: FastAPI, service: Service) -> None:
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
        return event_stream(_events_of(service, _job(service, job_id)))


def _job(service: Service, job_id: str) -> Job:
    job = service.jobs.get(job_id)
    if job is None:
        raise HTTPException(404, f"no job {job_id!r}")
    return job


async def _events_of(service: Service, job: Job) -> AsyncIterator[str]:
    changes, silent = -1, 0.0
    while job.state not in ENDED or changes != job.changes:
        now = await run_in_threadpool(service.jobs.wait, job, changes, _POLL_SECONDS)
        if now != changes:
            yield event_text("job", describe_job(job))
            changes, silent = now, 0.0
        elif service.jobs.stopping and job.state == "queued":
            return  # it is taken up by the next start
        elif (silent := silent + _POLL_SECONDS) >= _HEARTBEAT_SECONDS:
            yield ": still here\n\n"
            silent = 0.0
