"""Routes of streams, whose events go out as server-sent events or over a web socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, HTTPException, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from tsm_runtime.errors import UsageError
from tsm_serve.service.event_stream import event_stream, event_text
from tsm_serve.service.service import Service, describe_stream
from tsm_serve.service.streams import Stream


def add_stream_routes(app: FastAPI, service: Service) -> None:
    """Add the routes below `/v1/streams`."""

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
            async for event in _events_of(service, _stream(service, stream_id)):
                yield event_text(str(event["event"]), event)

        _stream(service, stream_id)
        return event_stream(lines())

    @app.websocket("/v1/streams/{stream_id}/ws")
    async def websocket(socket: WebSocket, stream_id: str) -> None:
        stream = service.streams.get(stream_id)
        if stream is None or not service.options.admits(socket.headers.get("authorization", "")):
            await socket.close(1008)
            return
        await socket.accept()
        try:
            async for event in _events_of(service, stream):
                await socket.send_json(event)
            await socket.close()
        except WebSocketDisconnect:
            return


def _stream(service: Service, stream_id: str) -> Stream:
    stream = service.streams.get(stream_id)
    if stream is None:
        raise HTTPException(404, f"no stream {stream_id!r}")
    return stream


async def _events_of(service: Service, stream: Stream) -> AsyncIterator[dict[str, Any]]:
    number, ended = 0, False
    while not ended:
        events, number, ended = await run_in_threadpool(service.streams.wait, stream, number, 1.0)
        for event in events:
            yield event
    if stream.error:
        yield {"event": "error", "message": stream.error}
