"""Routes of training and of suggestions."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tsm_runtime.errors import UsageError
from tsm_serve.review.project import Project
from tsm_serve.review.training import Training, state_as_json
from tsm_serve.review.training_config import Kind


class _Start(msgspec.Struct, forbid_unknown_fields=True):
    kind: Kind = "quick"


def loop_routes(project: Project, training: Training) -> list[Route]:
    """Return the routes below `/api/` of training and suggestions."""

    async def state(_: Request) -> Response:
        return JSONResponse(state_as_json(await run_in_threadpool(training.state)))

    async def start(request: Request) -> Response:
        try:
            body = msgspec.json.decode(await request.body() or b"{}", type=_Start)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"the request's body: {error}") from error
        await run_in_threadpool(training.start, body.kind)
        return await state(request)

    async def stop(request: Request) -> Response:
        await run_in_threadpool(training.stop)
        return await state(request)

    async def suggestions(request: Request) -> Response:
        minutes = _positive(request.query_params.get("minutes", "10"))
        return JSONResponse({"suggestions": await run_in_threadpool(_suggest, project, minutes)})

    return [
        Route("/api/training", state),
        Route("/api/training", start, methods=["POST"]),
        Route("/api/training", stop, methods=["DELETE"]),
        Route("/api/suggestions", suggestions),
    ]


def _suggest(project: Project, minutes: float) -> list[dict[str, Any]]:
    from tsm_serve.suggest.ranking import suggest
    from tsm_serve.suggest.stored import evidence_of_project

    chosen = suggest(evidence_of_project(project), budget_seconds=60 * minutes)
    return [msgspec.to_builtins(one) for one in chosen]


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise UsageError(f"minutes={text!r}: expected a number above 0")
    return value
