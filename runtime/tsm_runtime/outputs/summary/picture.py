"""Time budget as a picture: a bar per video whose parts are the shares of the classes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from tsm_runtime.outputs.class_colors import LIGHT, color_slots
from tsm_runtime.outputs.painter import load_font
from tsm_runtime.outputs.summary.bouts import ALL_VIDEOS, NO_ACTION, ClassTime
from tsm_runtime.terminal import printable

_REST = "#d9d9d9"
_INK = "#222222"
_FONT_SIZE = 13
_MARGIN, _NAME_WIDTH, _BAR_WIDTH, _ROW = 16, 170, 640, 24
_LEGEND_COLUMN = 200
_NAME_LETTERS = 24


@dataclass(frozen=True, slots=True)
class _Box:
    """A filled rectangle, in pixels; `title` is what a browser shows for it."""

    left: float
    top: float
    width: float
    height: float
    color: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class _Text:
    """A text whose left end, or right end, is at `x`, and whose middle is at `y`."""

    x: float
    y: float
    text: str
    at_end: bool = False


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes and texts on a white ground, in pixels from the upper left."""

    width: int
    height: int
    boxes: Sequence[_Box]
    texts: Sequence[_Text]


def draw_time_budget(rows: Sequence[ClassTime]) -> Drawing:
    """Draw the times of classes.

    Each bar is the whole length of its video; what no class covers is grey. Where classes overlap, their
    shares add up to more than the covered time, and are drawn smaller in proportion.
    """
    labels = list(dict.fromkeys(row.label for row in rows if row.label != NO_ACTION and row.seconds))
    slots = color_slots(labels)
    boxes, texts = _legend(labels, slots)
    top = _MARGIN + _ROW * (1 + len({box.top for box in boxes})) - _ROW // 2
    for number, video in enumerate(dict.fromkeys(row.video_id for row in rows)):
        own = [row for row in rows if row.video_id == video]
        y = top + number * _ROW
        texts.append(_Text(_MARGIN + _NAME_WIDTH - 8, y + _ROW / 2, _video_name(video), at_end=True))
        boxes += _bar(own, slots, y + 3)
        minutes = own[0].duration_seconds / 60
        texts.append(_Text(_MARGIN + _NAME_WIDTH + _BAR_WIDTH + 8, y + _ROW / 2, f"{minutes:.1f} min"))
        bottom = y + _ROW
    return Drawing(2 * _MARGIN + _NAME_WIDTH + _BAR_WIDTH + 70, bottom + _MARGIN, boxes, texts)


def _legend(labels: Sequence[str], slots: dict[str, int]) -> tuple[list[_Box], list[_Text]]:
    boxes, texts = [], []
    columns = (_NAME_WIDTH + _BAR_WIDTH) // _LEGEND_COLUMN
    named = [(label, LIGHT[slots[label]]) for label in labels] + [("no action", _REST)]
    for number, (label, color) in enumerate(named):
        row, column = divmod(number, columns)
        x, y = _MARGIN + column * _LEGEND_COLUMN, _MARGIN + row * _ROW
        boxes.append(_Box(x, y + 6, 12, 12, color))
        texts.append(_Text(x + 18, y + _ROW / 2, _shortened(label)))
    return boxes, texts


def _bar(rows: Sequence[ClassTime], slots: dict[str, int], top: float) -> list[_Box]:
    left, height = float(_MARGIN + _NAME_WIDTH), float(_ROW - 6)
    length = rows[0].duration_seconds
    boxes = [_Box(left, top, _BAR_WIDTH, height, _REST)]
    free = sum(row.seconds for row in rows if row.label == NO_ACTION)
    parts = [row for row in rows if row.label != NO_ACTION and row.seconds]
    total = sum(row.seconds for row in parts)
    scale = _BAR_WIDTH * (length - free) / length / total if total and length else 0.0
    for row in parts:
        title = f"{printable(row.label)}: {row.seconds:.1f} s, {row.percent:.1f} %"
        boxes.append(_Box(left, top, row.seconds * scale, height, LIGHT[slots[row.label]], title))
        left += row.seconds * scale
    return boxes


def _video_name(video_id: str) -> str:
    """Return a name that fits, cut at its begin: names of videos often differ at their end."""
    name = "all videos" if video_id == ALL_VIDEOS else printable(video_id)
    return name if len(name) <= _NAME_LETTERS else f"...{name[3 - _NAME_LETTERS :]}"


def _shortened(label: str) -> str:
    name = printable(label)
    return name if len(name) <= _NAME_LETTERS else f"{name[: _NAME_LETTERS - 3]}..."


def drawing_to_svg(drawing: Drawing) -> bytes:
    """Return a drawing as SVG."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{drawing.width}" height="{drawing.height}"'
        f' viewBox="0 0 {drawing.width} {drawing.height}" font-family="sans-serif" font-size="{_FONT_SIZE}">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for box in drawing.boxes:
        place = f'x="{box.left:.2f}" y="{box.top:.2f}" width="{box.width:.2f}" height="{box.height:.2f}"'
        title = f"<title>{escape(box.title)}</title>" if box.title else ""
        lines.append(f'<rect {place} fill="{box.color}">{title}</rect>')
    for text in drawing.texts:
        anchor = ' text-anchor="end"' if text.at_end else ""
        place = f'x="{text.x:.2f}" y="{text.y:.2f}" dominant-baseline="central" fill="{_INK}"'
        lines.append(f"<text {place}{anchor}>{escape(text.text)}</text>")
    return "\n".join([*lines, "</svg>", ""]).encode("utf-8", "backslashreplace")


def drawing_to_png(drawing: Drawing) -> bytes:
    """Return a drawing as PNG.

    Raises:
        BackendError: Pillow is not installed.
    """
    font = load_font(_FONT_SIZE)
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (drawing.width, drawing.height), "#ffffff")
    draw = ImageDraw.Draw(image)
    for box in drawing.boxes:
        if box.width >= 0.5:
            bounds = (box.left, box.top, box.left + box.width - 1, box.top + box.height - 1)
            draw.rectangle([round(bound) for bound in bounds], fill=box.color)
    for text in drawing.texts:
        draw.text((text.x, text.y), text.text, fill=_INK, font=font, anchor="rm" if text.at_end else "lm")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
