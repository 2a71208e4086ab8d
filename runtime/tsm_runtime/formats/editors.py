"""Files for video editors and players: CMX 3600 edit lists, Final Cut Pro XML, OpenTimelineIO, chapters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from tsm_runtime.errors import BackendError, UsageError
from tsm_runtime.formats.text import check_ids, one_result
from tsm_runtime.results import Result, Segment, by_time
from tsm_runtime.wording import counted

_COLORS = ("RED", "GREEN", "BLUE", "CYAN", "MAGENTA", "YELLOW")
_SHORTEST_CHAPTER_SECONDS = 10
_FEWEST_CHAPTERS = 3


def exact_rate(rate: float) -> Fraction:
    """Return a frame rate as a fraction, a multiple of 1/1.001 where it is one: 29.97 is 30000/1001.

    >>> exact_rate(29.97)
    Fraction(30000, 1001)
    """
    whole = Fraction(math.ceil(rate - 1e-6))
    by_1001 = whole * 1000 / 1001
    if abs(float(by_1001) - rate) < 5e-3:
        return by_1001
    return Fraction(rate).limit_denominator(1000)


def _frames(segment: Segment, rate: float) -> tuple[int, int]:
    start = round(segment.start_seconds * rate)
    return start, max(round(segment.end_seconds * rate), start + 1)


def _name(result: Result, media: Mapping[str, Path]) -> str:
    return media[result.video_id].name if result.video_id in media else result.video_id


def _one_line(text: str) -> str:
    return " ".join(text.split())


# --- CMX 3600 -------------------------------------------------------------------------------------


def results_to_edl(
    results: Sequence[Result], rates: Mapping[str, float], media: Mapping[str, Path] | None = None
) -> str:
    """Return a CMX 3600 edit list: an event per segment, one after another, with the label as a marker.

    The count of frames is without drop frames. The clip's name is the name of the video.

    Raises:
        UsageError: the videos have several frame rates, which an edit list cannot hold.
        ValueError: two results have the same video id.
    """
    check_ids(results)
    bases = {math.ceil(rates[result.video_id] - 1e-6) for result in results}
    if len(bases) > 1:
        there = ", ".join(map(str, sorted(bases)))
        raise UsageError(f"an edit list has one frame rate, the videos have {there}; choose --output FOLDER/")
    lines = ["TITLE: tsm-tal", "FCM: NON-DROP FRAME", ""]
    at, number = 0, 0
    for result in results:
        name, rate = _one_line(_name(result, media or {})), rates[result.video_id]
        base = math.ceil(rate - 1e-6)
        for segment in by_time(result.segments):
            start, stop = _frames(segment, rate)
            number += 1
            times = " ".join(_timecode(n, base) for n in (start, stop, at, at + stop - start))
            lines += [
                f"{number:03}  AX       V     C        {times}",
                f"* FROM CLIP NAME: {name}",
                f"* LOC: {_timecode(at, base)} {_COLORS[number % len(_COLORS)]} {_one_line(segment.label)}",
                f"* COMMENT: {_one_line(segment.label)} {segment.score:.6f}",
                "",
            ]
            at += stop - start
    return "\n".join(lines)


def _timecode(frames: int, base: int) -> str:
    """Return a number of frames as hours, minutes, seconds and frames.

    >>> _timecode(90061, 25)
    '01:00:02:11'
    """
    seconds, rest = divmod(frames, base)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{rest:02}"


# --- Final Cut Pro --------------------------------------------------------------------------------


def results_to_fcpxml(
    results: Sequence[Result], rates: Mapping[str, float], media: Mapping[str, Path] | None = None
) -> bytes:
    """Return Final Cut Pro XML 1.8: a project per video, its clip with a marker per segment.

    Raises:
        ValueError: two results have the same video id.
    """
    check_ids(results)
    root = Element("fcpxml", version="1.8")
    resources = SubElement(root, "resources")
    event = SubElement(SubElement(root, "library"), "event", name="tsm-tal")
    for number, result in enumerate(results, start=1):
        rate = exact_rate(rates[result.video_id])
        path = (media or {}).get(result.video_id, Path(result.video_id))
        format_, asset = f"r{2 * number - 1}", f"r{2 * number}"
        length = _rational(_num_frames(result, float(rate)), rate)
        SubElement(resources, "format", id=format_, frameDuration=_rational(1, rate))
        about = {"name": path.name, "start": "0s", "duration": length, "hasVideo": "1", "format": format_}
        SubElement(resources, "asset", {"id": asset, "src": path.absolute().as_uri(), **about})
        project = SubElement(event, "project", name=result.video_id)
        sequence = SubElement(
            project, "sequence", format=format_, duration=length, tcStart="0s", tcFormat="NDF"
        )
        spine = SubElement(sequence, "spine")
        clip = SubElement(
            spine, "asset-clip", ref=asset, name=path.name, offset="0s", start="0s", duration=length
        )
        for segment in by_time(result.segments):
            start, stop = _frames(segment, float(rate))
            times = {"start": _rational(start, rate), "duration": _rational(stop - start, rate)}
            SubElement(clip, "marker", {**times, "value": segment.label, "note": f"{segment.score:.6f}"})
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n{text}\n'.encode(
        "utf-8", "backslashreplace"
    )


def _rational(frames: int, rate: Fraction) -> str:
    seconds = frames / rate
    return (
        f"{seconds.numerator}s" if seconds.denominator == 1 else f"{seconds.numerator}/{seconds.denominator}s"
    )


def _num_frames(result: Result, rate: float) -> int:
    ends = (segment.end_seconds for segment in result.segments)
    return max(math.ceil(max([result.duration_seconds, *ends]) * rate - 1e-6), 1)


# --- OpenTimelineIO -------------------------------------------------------------------------------


def results_to_otio(
    results: Sequence[Result], rates: Mapping[str, float], media: Mapping[str, Path] | None = None
) -> bytes:
    """Return an OpenTimelineIO timeline: a clip per video, one after another, with a marker per segment.

    The score is in the marker's metadata, under "tsm-tal".

    Raises:
        BackendError: opentimelineio is not installed.
        ValueError: two results have the same video id.
    """
    check_ids(results)
    otio = require_otio()
    timeline = otio.schema.Timeline("tsm-tal")
    track = otio.schema.Track("actions", kind=otio.schema.TrackKind.Video)
    timeline.tracks.append(track)
    for result in results:
        rate = float(exact_rate(rates[result.video_id]))
        path = (media or {}).get(result.video_id)
        whole = _time_range(otio, 0, _num_frames(result, rate), rate)
        reference = (
            otio.schema.MissingReference(available_range=whole)
            if path is None
            else otio.schema.ExternalReference(path.absolute().as_uri(), whole)
        )
        clip = otio.schema.Clip(result.video_id, reference, whole)
        clip.markers.extend(_markers(otio, result, rate))
        track.append(clip)
    text: str = otio.adapters.write_to_string(timeline, "otio_json")
    return f"{text}\n".encode("utf-8", "backslashreplace")


def _markers(otio: Any, result: Result, rate: float) -> Iterator[Any]:
    for segment in by_time(result.segments):
        start, stop = _frames(segment, rate)
        marker = otio.schema.Marker(segment.label, _time_range(otio, start, stop - start, rate))
        marker.metadata["tsm-tal"] = {"score": round(segment.score, 6)}
        yield marker


def _time_range(otio: Any, start: int, count: int, rate: float) -> Any:
    time = otio.opentime.RationalTime
    return otio.opentime.TimeRange(time(start, rate), time(count, rate))


def require_otio() -> Any:
    """Return the module opentimelineio.

    Raises:
        BackendError: it is not installed.
    """
    try:
        import opentimelineio
    except ImportError as error:
        raise BackendError("OpenTimelineIO needs its library: pip install 'tsm-tal[otio]'") from error
    return opentimelineio


# --- chapters -------------------------------------------------------------------------------------


def results_to_chapters(results: Sequence[Result]) -> str:
    """Return chapters for the description of a video on YouTube: a time and a label a line.

    The first chapter begins at 0:00, "background" where nothing was found. A segment that begins less than
    10 s after the last chapter, the least that is allowed, is left out if its score is the lower one. Time
    between segments is not a chapter of its own.

    Raises:
        UsageError: there is not exactly one video, or fewer than the three chapters that are needed.
    """
    chosen: list[Segment] = []
    for segment in by_time(one_result(results, "chapters").segments):
        if chosen and segment.start_seconds - chosen[-1].start_seconds < _SHORTEST_CHAPTER_SECONDS:
            if segment.score <= chosen[-1].score:
                continue
            chosen.pop()
        chosen.append(segment)
    lines = [f"{_clock(segment.start_seconds)} {_one_line(segment.label)}" for segment in chosen]
    if not chosen or int(chosen[0].start_seconds) > 0:
        if chosen and chosen[0].start_seconds < _SHORTEST_CHAPTER_SECONDS:
            lines[0] = f"0:00 {_one_line(chosen[0].label)}"
        else:
            lines.insert(0, "0:00 background")
    if len(lines) < _FEWEST_CHAPTERS:
        raise UsageError(f"{counted(len(lines), 'chapter')}: a video needs {_FEWEST_CHAPTERS}, 10 s apart")
    return "\n".join(lines) + "\n"


def _clock(seconds: float) -> str:
    whole = int(seconds)
    minutes = f"{whole // 60 % 60}:{whole % 60:02}"
    return f"{whole // 3600}:{minutes:0>5}" if whole >= 3600 else minutes
