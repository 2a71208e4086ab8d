"""Parquet: a row per segment, and a row for each video without segments or that failed.

pyarrow (extra `parquet`) is imported on first use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from tsm_runtime.errors import BackendError, UsageError
from tsm_runtime.formats.text import rounded, segment_at
from tsm_runtime.results import Result, Segment, ranked_scenes

COLUMNS = ("video", "status", "label", "start", "end", "score", "scene", "bundle", "duration", "error")
"""`status` is `done`, `incomplete` (the video breaks off) or `failed`; `label` to `score` are null for a
video without segments. Times are in seconds."""


def require_pyarrow() -> Any:
    """Return the module pyarrow.

    Raises:
        BackendError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise BackendError("Parquet needs pyarrow: pip install 'tsm-tal[parquet]'") from error
    return pyarrow


def bundle_of(external_data: Mapping[str, object]) -> str:
    """Return the SHA-256 of the bundle that made the results; for an ensemble all, separated by commas."""
    members = external_data.get("members")
    described = members if isinstance(members, list) else [external_data]
    models = [entry.get("model") for entry in described if isinstance(entry, Mapping)]
    return ",".join(str(model["bundle_sha256"]) for model in models if isinstance(model, Mapping))


def segment_rows(result: Result, bundle: str) -> list[dict[str, object]]:
    """Return the rows of one video."""
    common: dict[str, object] = {
        "video": result.video_id,
        "status": "done" if result.complete else "incomplete",
        "scene": ranked_scenes(result.scenes)[0].label if result.scenes else None,
        "bundle": bundle,
        "duration": rounded(result.duration_seconds),
    }
    rows = [
        {
            **common,
            "label": segment.label,
            "start": rounded(segment.start_seconds),
            "end": rounded(segment.end_seconds),
            "score": rounded(segment.score),
        }
        for segment in result.segments
    ]
    return rows or [common]


def failure_row(video_id: str, reason: str, bundle: str) -> dict[str, object]:
    """Return the row of a video without a result."""
    return {"video": video_id, "status": "failed", "bundle": bundle, "error": reason}


def parquet_schema() -> Any:
    """Return the columns and their types."""
    pa = require_pyarrow()
    numbers = {"start", "end", "score", "duration"}
    return pa.schema([(name, pa.float64() if name in numbers else pa.string()) for name in COLUMNS])


def rows_to_table(rows: Sequence[Mapping[str, object]]) -> Any:
    """Return rows as a table; bytes of a name that are not UTF-8 are escaped."""
    pa = require_pyarrow()
    columns = {name: [_text(row.get(name)) for row in rows] for name in COLUMNS}
    return pa.table(columns, schema=parquet_schema())


def _text(value: object) -> object:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def results_to_parquet(results: Sequence[Result], external_data: Mapping[str, object]) -> bytes:
    """Return a Parquet file with the rows of all results."""
    pa = require_pyarrow()
    bundle = bundle_of(external_data)
    rows = [row for result in results for row in segment_rows(result, bundle)]
    out = BytesIO()
    pa.parquet.write_table(rows_to_table(rows), out, compression="zstd")
    return out.getvalue()


def read_parquet(path: Path) -> dict[str, list[Segment]]:
    """Read segments per video of a file that `results_to_parquet` wrote; failed videos are left out.

    Raises:
        UsageError: the file is not such a file, or a row is wrong.
        BackendError: pyarrow is not installed.
    """
    pa = require_pyarrow()
    try:
        table = pa.parquet.read_table(path, columns=list(COLUMNS))
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise UsageError(f"{path}: not a Parquet file of segments: {error}") from error
    found: dict[str, list[Segment]] = {}
    for number, row in enumerate(table.to_pylist(), start=1):
        if row["status"] == "failed":
            continue
        segments = found.setdefault(str(row["video"]), [])
        if row["label"] is not None:
            where = f"{path}, row {number} (video {row['video']!r})"
            numbers = [row[name] for name in ("start", "end", "score")]
            if None in numbers:
                raise UsageError(f"{where}: a label without start, end and score")
            segments.append(segment_at(where, row["label"], *numbers))
    return found
