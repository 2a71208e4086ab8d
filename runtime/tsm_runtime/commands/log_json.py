"""`--log-json`: what a command reports on standard error, as one JSON object a line, through `logging`."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from tsm_runtime.terminal import report_to


class JsonFormatter(logging.Formatter):
    """Time (UTC), level, message, and the fields of an event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, object] = getattr(record, "fields", {})
        content = {"time": when, "level": record.levelname.lower(), "message": record.getMessage(), **fields}
        return json.dumps(content, ensure_ascii=True, default=str)


def log_as_json() -> None:
    """Send what the package logs, and what its commands report, to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("tsm_runtime")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    report_to(logger)
