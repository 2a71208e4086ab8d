"""Server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from fastapi.responses import Response, StreamingResponse


def event_text(kind: str, value: object) -> str:
    """Return one event."""
    return f"event: {kind}\ndata: {json.dumps(value)}\n\n"


def event_stream(lines: AsyncIterator[str]) -> Response:
    """Return a response that sends events as they come, past caches and buffering proxies."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines, media_type="text/event-stream", headers=headers)
