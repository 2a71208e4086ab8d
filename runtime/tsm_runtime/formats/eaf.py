"""ELAN annotation files (.eaf, format 3.0: https://www.mpi.nl/tools/elan/EAFv3.0.xsd)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from tsm_runtime.errors import UsageError
from tsm_runtime.formats.numbers import number_in, parse_number
from tsm_runtime.formats.text import hide, lanes, milliseconds, one_result, reveal, segment_at
from tsm_runtime.formats.xml_text import parse_xml
from tsm_runtime.results import Result, Segment, by_time, ranked_scenes

_TIER = "actions"
_ACTION_TYPE = "action"
_SCORE_TYPE = "tsm-tal score"
_VIDEO_PROPERTY = "tsm-tal video"
_SCENE_PROPERTY = "tsm-tal scene"

_NOT_IN_XML = re.compile("[\\x00-\\x08\\x0b-\\x1f\\ud800-\\udfff\\ufffe\\uffff]")
"""Characters that XML 1.0 cannot hold, and the carriage return, which XML readers convert to a line end."""

_MIME_TYPES = {".mp4": "video/mp4", ".mov": "video/quicktime", ".mpg": "video/mpeg", ".mpeg": "video/mpeg"}


# --- writing --------------------------------------------------------------------------------------


def results_to_eaf(results: Sequence[Result], media: Path | None = None) -> bytes:
    r"""Return an ELAN document with the segments of one video as annotations on the tier "actions".

    Annotations of one tier may not overlap, so overlapping segments go to "actions 2", "actions 3" and so on.
    The text is the label; its score is a dependent annotation on the tier "actions score". Times are in
    milliseconds. The scene is a property in the header. Characters that XML cannot hold are written as
    \u0001, which `read_segments` decodes.

    Args:
        results: one result.
        media: the video file that ELAN opens.

    Raises:
        UsageError: there is not exactly one video.
    """
    result = one_result(results, "eaf")
    # The date is required; a fixed one keeps the bytes the same for the same result.
    root = Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "tsm-tal",
            "DATE": "1970-01-01T00:00:00+00:00",
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
        },
    )
    _add_header(root, result, media)
    spans = [milliseconds(segment) for segment in result.segments]
    times = SubElement(root, "TIME_ORDER")
    for number, time in enumerate((time for span in spans for time in span), start=1):
        SubElement(times, "TIME_SLOT", TIME_SLOT_ID=f"ts{number}", TIME_VALUE=str(time))
    chosen = lanes(spans)
    for lane in range(max(chosen, default=0) + 1):
        numbers = [n for n, its_lane in enumerate(chosen) if its_lane == lane]
        _add_tiers(root, _TIER if lane == 0 else f"{_TIER} {lane + 1}", result.segments, numbers)
    _add_types(root)
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _add_header(root: Element, result: Result, media: Path | None) -> None:
    header = SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    if media is not None:
        SubElement(
            header,
            "MEDIA_DESCRIPTOR",
            MEDIA_URL=media.absolute().as_uri(),
            MIME_TYPE=_MIME_TYPES.get(media.suffix.lower(), "video/*"),
            RELATIVE_MEDIA_URL=f"./{hide(media.name, _NOT_IN_XML)}",
        )
    SubElement(header, "PROPERTY", NAME=_VIDEO_PROPERTY).text = hide(result.video_id, _NOT_IN_XML)
    if result.scenes:
        best = ranked_scenes(result.scenes)[0]
        text = f"{hide(best.label, _NOT_IN_XML)} ({best.score:.2f})"
        SubElement(header, "PROPERTY", NAME=_SCENE_PROPERTY).text = text


def _add_tiers(root: Element, name: str, segments: Sequence[Segment], numbers: Sequence[int]) -> None:
    """Add the tier of the segments with these numbers, and the one with their scores."""
    tier = SubElement(root, "TIER", LINGUISTIC_TYPE_REF=_ACTION_TYPE, TIER_ID=name)
    scores = SubElement(
        root, "TIER", LINGUISTIC_TYPE_REF=_SCORE_TYPE, PARENT_REF=name, TIER_ID=f"{name} score"
    )
    for n in numbers:
        annotation = SubElement(
            SubElement(tier, "ANNOTATION"),
            "ALIGNABLE_ANNOTATION",
            ANNOTATION_ID=f"a{n + 1}",
            TIME_SLOT_REF1=f"ts{2 * n + 1}",
            TIME_SLOT_REF2=f"ts{2 * n + 2}",
        )
        SubElement(annotation, "ANNOTATION_VALUE").text = hide(segments[n].label, _NOT_IN_XML)
        score = SubElement(
            SubElement(scores, "ANNOTATION"),
            "REF_ANNOTATION",
            ANNOTATION_ID=f"s{n + 1}",
            ANNOTATION_REF=f"a{n + 1}",
        )
        SubElement(score, "ANNOTATION_VALUE").text = f"{segments[n].score:.6f}"


def _add_types(root: Element) -> None:
    stereotype = "Symbolic_Association"
    for name, more in (
        (_ACTION_TYPE, {"TIME_ALIGNABLE": "true"}),
        (_SCORE_TYPE, {"TIME_ALIGNABLE": "false", "CONSTRAINTS": stereotype}),
    ):
        SubElement(
            root, "LINGUISTIC_TYPE", {"LINGUISTIC_TYPE_ID": name, "GRAPHIC_REFERENCES": "false", **more}
        )
    SubElement(
        root,
        "CONSTRAINT",
        DESCRIPTION="1-1 association with a parent annotation",
        STEREOTYPE=stereotype,
    )


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Document:
    """`times`: milliseconds by slot, or None; `scores`: by the id of the parent annotation.

    `origin` is the position of time 0 in the video, in milliseconds.
    """

    root: Element
    times: dict[str, str | None]
    scores: dict[str, str]
    origin: float


def read_eaf(path: Path, text: str, tiers: Collection[str] = ()) -> dict[str, list[Segment]]:
    """Return the segments of any ELAN document: the annotations of all independent tiers.

    An annotation without text gets the name of its tier as label. Scores and the video's id are those that
    `results_to_eaf` wrote, else 1.0 and the file's stem. Times are of the video: TIME_ORIGIN, which ELAN sets
    when it aligns several media, is added.

    Args:
        path: path for messages.
        text: content of the file.
        tiers: only these tiers, dependent ones too; (): all independent tiers.

    Raises:
        UsageError: an annotation is wrong (the message names file and annotation), or the document has a type
            declaration, which ELAN never writes and which could make a short file fill the memory.
    """
    root = parse_xml(path, text)
    if root.tag != "ANNOTATION_DOCUMENT":
        raise UsageError(f"{path}: the root element is <{root.tag}>; expected <ANNOTATION_DOCUMENT> of ELAN")
    units = next((h.get("TIME_UNITS", "milliseconds") for h in root.iter("HEADER")), "milliseconds")
    if units != "milliseconds":
        raise UsageError(f"{path}: times are in {units}; save it with a newer ELAN, in milliseconds")
    named = next((p.text for p in root.iter("PROPERTY") if p.get("NAME") == _VIDEO_PROPERTY), None)
    document = _Document(
        root,
        {slot.get("TIME_SLOT_ID", ""): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")},
        dict(_scores(root)),
        _origin_milliseconds(path, root),
    )
    segments = [
        _segment(path, document, tier, annotation)
        for tier in _chosen_tiers(path, root, tiers)
        for annotation in tier.iter("ALIGNABLE_ANNOTATION")
    ]
    return {reveal(named) if named else path.stem: by_time(segments)}


def _chosen_tiers(path: Path, root: Element, names: Collection[str]) -> list[Element]:
    every = list(root.iter("TIER"))
    if not names:
        return [tier for tier in every if tier.get("PARENT_REF") is None]
    there = {tier.get("TIER_ID", "") for tier in every}
    if missing := sorted(set(names) - there):
        raise UsageError(f"{path}: no tier {missing[0]!r}; there are: {', '.join(sorted(there)) or 'none'}")
    return [tier for tier in every if tier.get("TIER_ID", "") in names]


def _origin_milliseconds(path: Path, root: Element) -> float:
    """Return the position of the document's time 0 in its video, in milliseconds."""
    media = list(root.iter("MEDIA_DESCRIPTOR"))
    videos = [each for each in media if each.get("MIME_TYPE", "").startswith("video/")] or media
    text = videos[0].get("TIME_ORIGIN", "0") if videos else "0"
    try:
        return parse_number(text)
    except ValueError:
        raise UsageError(f"{path}: TIME_ORIGIN is {text!r}; expected milliseconds") from None


def _scores(root: Element) -> list[tuple[str, str]]:
    tiers = [tier for tier in root.iter("TIER") if tier.get("LINGUISTIC_TYPE_REF") == _SCORE_TYPE]
    return [
        (annotation.get("ANNOTATION_REF", ""), annotation.findtext("ANNOTATION_VALUE") or "")
        for tier in tiers
        for annotation in tier.iter("REF_ANNOTATION")
    ]


def _segment(path: Path, document: _Document, tier: Element, annotation: Element) -> Segment:
    identity = annotation.get("ANNOTATION_ID", "")
    where = f"{path}: annotation {identity!r} on tier {tier.get('TIER_ID', '')!r}"
    bounds = []
    for end in ("TIME_SLOT_REF1", "TIME_SLOT_REF2"):
        value = document.times.get(annotation.get(end, ""))
        try:
            bounds.append((parse_number(value or "") + document.origin) / 1000)
        except ValueError:
            raise UsageError(f"{where}: its {end} has no time in milliseconds") from None
    score = number_in(where, "score", document.scores.get(identity, "1"))
    text = annotation.findtext("ANNOTATION_VALUE") or ""
    label = reveal(text if text.strip() else tier.get("TIER_ID", ""))
    return segment_at(where, label, bounds[0], bounds[1], score)
