"""The format of a file that is read, by its suffix and content."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from itertools import islice

from tsm_runtime.formats.boris import is_boris
from tsm_runtime.formats.boris_tables import has_boris_header
from tsm_runtime.formats.columns import is_epic
from tsm_runtime.formats.frame_labels import is_one_hot
from tsm_runtime.formats.kaggle import is_kaggle
from tsm_runtime.formats.label_studio import is_label_studio
from tsm_runtime.formats.names import Format, ToolFormat, format_of
from tsm_runtime.formats.thumos import is_thumos
from tsm_runtime.formats.via2 import is_via2

_HEADER_LINES = 40
"""Lines in which the header of a table by an old BORIS is sought, below its description."""

_LABEL_LINES = 50


def recognise_format(name: str, text: str) -> Format | ToolFormat:
    """Return the format by the beginning of a file, else that of the suffix.

    All JSON is "json" here: `json_format` distinguishes its kinds by the value.
    """
    by_suffix = format_of(name)
    if by_suffix not in (None, "json", "csv", "audacity"):
        return by_suffix
    lines = [line for line in _first_lines(text) if line.strip()]
    first = lines[0] if lines else ""
    if by_suffix == "csv" or first.startswith("video,"):
        return _table_format(lines, first)
    if first.startswith(("{", "[")):
        return "jsonl" if len(lines) > 1 and _is_json_object(first) else "json"
    if by_suffix == "json":
        return "json"  # its reader raises the right error
    if first.startswith("WEBVTT"):
        return "vtt"
    if first.startswith("<"):
        return _xml_format(text)
    if "-->" in text[:200] and not re.match(r"[^\n]*\t", text):
        return "srt"
    return _text_format(lines, first, by_suffix)


def _first_lines(text: str) -> list[str]:
    """Return the first lines; not by splitlines(), since a label may hold the other separators of Unicode."""
    found = (match[0] for match in re.finditer(r"[^\r\n]+", text.lstrip()))
    return list(islice(found, max(_HEADER_LINES, _LABEL_LINES)))


def _xml_format(text: str) -> Format | ToolFormat:
    root = re.search(r"<([A-Za-z][\w:]*)", re.sub(r"<\?.*?\?>|<!--.*?-->", "", text[:4000], flags=re.DOTALL))
    return "cvat" if root is not None and root[1] == "annotations" else "eaf"


def _table_format(lines: Sequence[str], first: str) -> Format | ToolFormat:
    separator = max(",;\t", key=first.count)
    rows = list(csv.reader(lines[:_HEADER_LINES], delimiter=separator))
    header = [cell.strip() for cell in rows[0]] if rows else []
    if any(map(has_boris_header, rows)):
        return "boris-table"
    if is_epic(header):
        return "epic"
    if len(rows) > 1 and is_one_hot(header, [cell.strip() for cell in rows[1]]):
        return "one-hot"
    return "kaggle" if is_kaggle(first) else "csv"


def _text_format(lines: Sequence[str], first: str, by_suffix: Format | None) -> Format | ToolFormat:
    if is_kaggle(first):
        return "kaggle"
    if any(has_boris_header(line.split("\t")) for line in lines[:_HEADER_LINES]):
        return "boris-table"
    if re.match(r"[0-9.,]+\t", first):
        return "audacity"
    if is_thumos(first):
        return "thumos"
    if by_suffix == "audacity" and lines and not any("\t" in line for line in lines[:_LABEL_LINES]):
        return "frame-labels"
    return "audacity" if by_suffix == "audacity" else "json"


def json_format(content: object) -> Format | ToolFormat:
    """Return the format of a JSON value that holds segments; "json" where it is none of other tools."""
    if is_boris(content):
        return "boris"
    if is_via2(content):
        return "via2"
    if isinstance(content, dict) and "metadata" in content and "results" not in content:
        return "via"
    return "label-studio" if is_label_studio(content) else "json"


def _is_json_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
