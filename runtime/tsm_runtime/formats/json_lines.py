"""JSON lines: one line per video, followed by one per segment; for `jq`, logs and data frames."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.formats.detection_json import detection, provenance, read_detection
from tsm_runtime.formats.text import check_ids, rounded
from tsm_runtime.results import Result, Segment, ranked_scenes


def results_to_json_lines(results: Sequence[Result]) -> bytes:
    """Return one JSON object per line: a line with "label" is a segment, one without describes its video.

    >>> line = {"video": "v", "label": "hug", "segment": [0.0, 1.5], "score": 0.9}

    Raises:
        ValueError: two results have the same video id.
    """
    check_ids(results)
    lines = []
    for result in results:
        scenes = [{"label": s.label, "score": rounded(s.score)} for s in ranked_scenes(result.scenes)]
        lines.append(_line({"video": result.video_id, **provenance(result), "scenes": scenes}))
        lines += [segment_line(result.video_id, segment) for segment in result.segments]
    return "".join(lines).encode("utf-8", "backslashreplace")  # as in results_to_json


def segment_line(video_id: str, segment: Segment) -> str:
    """Return a segment as a line, with its line end."""
    return _line({"video": video_id, **detection(segment)})


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def read_json_lines(path: Path, text: str) -> dict[str, list[Segment]]:
    """Return the segments per video; a video with only its own line has an empty list.

    Lines of `tsm-live` are read too: its closed segments, under the run's "video".

    Raises:
        UsageError: a line is wrong; the message names file and line.
    """
    found: dict[str, list[Segment]] = {}
    live: dict[str, str] = {}  # video of the run whose lines these are, by stream
    # Not splitlines(): it also splits at separators that JSON allows inside strings.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{where}: not JSON: {error}") from error
        if isinstance(entry, dict) and "event" in entry:
            _read_live(where, entry, found, live)
            continue
        video_id = entry.get("video") if isinstance(entry, dict) else None
        if not isinstance(video_id, str):
            raise UsageError(f'{where}: expected an object with "video"')
        segments = found.setdefault(video_id, [])
        if "label" in entry:
            segments.append(read_detection(f"{where} (video {video_id!r})", entry))
    return found


def _read_live(
    where: str, entry: Mapping[str, object], found: dict[str, list[Segment]], live: dict[str, str]
) -> None:
    """Read a line of a live run into `found`; `live` holds the video of each stream's current run."""
    stream = str(entry.get("stream", ""))
    if entry["event"] == "start":
        video_id = entry.get("video")
        if not isinstance(video_id, str):
            raise UsageError(f'{where}: expected "video" in the first line of a live run')
        if video_id in found:
            raise UsageError(f"{where}: another run on {video_id!r}, whose times restart; keep one per file")
        found[video_id] = []
        live[stream] = video_id
    if entry["event"] == "segment":
        if stream not in live:
            raise UsageError(f"{where}: a live run's segment before its first line")
        bounds = [entry.get("start"), entry.get("end")]
        segment = read_detection(f"{where} ({live[stream]!r})", {**entry, "segment": bounds})
        found[live[stream]].append(segment)
