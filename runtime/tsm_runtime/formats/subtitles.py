"""WebVTT and SRT: each segment is a subtitle in any player."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tsm_runtime.errors import UsageError
from tsm_runtime.formats.text import hide, milliseconds, one_result, reveal, segment_at
from tsm_runtime.results import Result, Segment, ranked_scenes

_CLOCK = r"(?:([0-9]{1,9}):)?([0-9]{1,2}):([0-9]{1,2})[.,]([0-9]{1,3})"
_TIMING = re.compile(rf"[ \t]*{_CLOCK}[ \t]*-->[ \t]*{_CLOCK}(?:[ \t].*)?")
_TAG = re.compile(r"<[^>]*>")
_SCORE = re.compile(r"\d+ score=(\S+)")
_NOT_IN_SRT = re.compile(r"[\r\n]|(?<=--)>")


@dataclass(frozen=True, slots=True)
class _Cue:
    """`name` is the line above the times, or ""; `line` is the number of the line with the times, from 1."""

    line: int
    name: str
    start_seconds: float
    end_seconds: float
    text: str


# --- WebVTT (https://www.w3.org/TR/webvtt1/) ------------------------------------------------------


def results_to_vtt(results: Sequence[Result]) -> str:
    """Return WebVTT: a cue per segment, in order of time; notes name the video and its best scene.

    Times are in milliseconds. The text is the label; the score is in the cue's name, which players do not
    show. Overlapping segments are overlapping cues, which players stack.

    Raises:
        UsageError: there is not exactly one video.
    """
    result = one_result(results, "vtt")
    blocks = ["WEBVTT", f"NOTE video: {_vtt_text(result.video_id)}"]
    if result.scenes:
        best = ranked_scenes(result.scenes)[0]
        blocks.append(f"NOTE scene: {_vtt_text(best.label)} ({best.score:.2f})")
    for number, segment in enumerate(_by_time(result.segments), start=1):
        name = f"{number} score={segment.score:.6f}"
        blocks.append(f"{name}\n{_timing(segment, '.')}\n{_vtt_text(segment.label)}")
    return "\n\n".join(blocks) + "\n"


def _vtt_text(text: str) -> str:
    # quote=False: quotes have no meaning in WebVTT. Line ends would end the line, or the cue.
    return html.escape(text, quote=False).replace("\r", "&#13;").replace("\n", "&#10;")


def read_vtt(path: Path, text: str) -> dict[str, list[Segment]]:
    """Return the segments of any WebVTT file; tags are left out, a cue of several lines is one label.

    The video's id and the scores are those that `results_to_vtt` wrote, else the file's stem and 1.0.

    Raises:
        UsageError: a line is wrong; the message names file and line.
    """
    if not re.match(r"WEBVTT(?:[ \t\r\n]|$)", text):
        raise UsageError(f"{path}, line 1: no WEBVTT header; expected a WebVTT file")
    noted = re.search(r"^NOTE video: (.*)$", text.replace("\r\n", "\n"), re.MULTILINE)
    video_id = html.unescape(noted[1]) if noted else path.stem
    segments = []
    for cue in _cues(path, text):
        where = f"{path}, line {cue.line} (video {video_id!r})"
        label = html.unescape(_TAG.sub("", cue.text))
        segments.append(segment_at(where, label, cue.start_seconds, cue.end_seconds, _score(cue.name)))
    return {video_id: segments}


def _score(name: str) -> float:
    match = _SCORE.fullmatch(name)
    try:
        return float(match[1]) if match else 1.0
    except ValueError:
        return 1.0  # a cue name of another tool


# --- SRT ------------------------------------------------------------------------------------------


def results_to_srt(results: Sequence[Result]) -> str:
    r"""Return SRT: a cue per segment, in order of time, with the label as its text.

    Times are in milliseconds. The format cannot hold scores, scenes and the video's id: when read back,
    scores are 1.0 and the id is the file's stem. SRT has no escapes: line ends in a label, and the arrow
    `-->`, are
    written with \u000a and \u003e, which `read_segments` decodes. Overlapping segments are overlapping cues:
    VLC, mpv and browsers stack them, simple players show only one of them.

    Raises:
        UsageError: there is not exactly one video.
    """
    segments = _by_time(one_result(results, "srt").segments)
    blocks = [
        f"{number}\n{_timing(segment, ',')}\n{hide(segment.label, _NOT_IN_SRT)}\n"
        for number, segment in enumerate(segments, start=1)
    ]
    return "\n".join(blocks)


def read_srt(path: Path, text: str) -> dict[str, list[Segment]]:
    """Return the segments of any SRT file, with score 1.0; the video's id is the file's stem.

    Raises:
        UsageError: a line is wrong; the message names file and line.
    """
    return {
        path.stem: [
            segment_at(f"{path}, line {cue.line}", reveal(cue.text), cue.start_seconds, cue.end_seconds)
            for cue in _cues(path, text)
        ]
    }


# --- what both share ------------------------------------------------------------------------------


def _by_time(segments: Sequence[Segment]) -> list[Segment]:
    """Return the segments in order of their written milliseconds, as players require."""
    return sorted(segments, key=milliseconds)


def _timing(segment: Segment, point: str) -> str:
    start, end = milliseconds(segment)
    return f"{_clock(start, point)} --> {_clock(end, point)}"


def _clock(milliseconds: int, point: str) -> str:
    """Return a time as text, with two or more digits of hours.

    >>> _clock(3_600_001, ".")
    '01:00:00.001'
    """
    seconds, thousandths = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{thousandths:03}"


def _cues(path: Path, text: str) -> Iterator[_Cue]:
    """Yield the cues by the rules of the WebVTT standard: any line with --> begins a cue.

    An empty or blank line ends a cue; a block without times (a note, a style) is skipped.

    Raises:
        UsageError: a line with --> holds no times, or the text holds no cue.
    """
    # Not splitlines(): a label may hold the other separators of Unicode.
    lines = re.split(r"\r\n|\r|\n", text)
    found = False
    for number, line in enumerate(lines):
        if "-->" not in line:
            continue
        match = _TIMING.fullmatch(line)
        if match is None:
            raise UsageError(f"{path}, line {number + 1}: expected two times around -->, got {line[:60]!r}")
        found = True
        yield _Cue(
            line=number + 1,
            name=lines[number - 1] if _is_name(lines, number - 1) else "",
            start_seconds=_seconds(match.groups()[:4]),
            end_seconds=_seconds(match.groups()[4:]),
            text="\n".join(_cue_text(lines, number + 1)),
        )
    if not found and text.strip() and not text.startswith("WEBVTT"):
        raise UsageError(f"{path}: no cue with times in it, such as 00:00:01,000 --> 00:00:02,500")


def _is_name(lines: Sequence[str], number: int) -> bool:
    """Return whether a line is a single line above the times of a cue."""
    above = lines[number - 1] if number > 0 else ""
    return number >= 0 and bool(lines[number].strip()) and not above.strip()


def _cue_text(lines: Sequence[str], start: int) -> Iterator[str]:
    """Yield the lines of a cue: up to an empty line, the next times, or the name above them."""
    for number in range(start, len(lines)):
        line = lines[number]
        follows = lines[number + 1] if number + 1 < len(lines) else ""
        numbered = number > start and "-->" in follows and line.strip().isdecimal()
        if not line.strip() or "-->" in line or numbered:
            return
        yield line


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = parts
    whole = (int(hours or 0) * 60 + int(minutes or 0)) * 60 + int(seconds or 0)
    return (whole * 1000 + int((fraction or "").ljust(3, "0"))) / 1000
