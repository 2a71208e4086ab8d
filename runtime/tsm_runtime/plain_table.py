"""Tables for people, on a terminal of any width or in a file; rich is imported where it is needed."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tsm_runtime.terminal import is_terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def console_text(draw: Callable[[Console], None], *, plain_width: int, for_file: bool = False) -> bytes:
    """Return what a function prints on a console.

    Args:
        draw: prints.
        plain_width: columns of a file or a pipe; a terminal has its own.
        for_file: UTF-8 and wide; else in the encoding and width of standard output.
    """
    from rich.console import Console

    encoding = "utf-8" if for_file or sys.stdout is None else sys.stdout.encoding
    is_shown = not for_file and is_terminal(sys.stdout)
    width = shutil.get_terminal_size().columns if is_shown else plain_width
    buffer = io.BytesIO()
    with io.TextIOWrapper(buffer, encoding=encoding, errors="backslashreplace", newline="\n") as file:
        draw(Console(file=file, width=width, highlight=False, markup=False, emoji=False))
        file.flush()
        return buffer.getvalue()


def plain_table(title: str, columns: Sequence[str], *, num_texts: int = 1) -> Table:
    """Return an empty table without lines between its columns; words of the header stay whole.

    Args:
        title: above the table.
        columns: their headers.
        num_texts: how many of the first columns hold text, on the left; numbers are on the right.
    """
    from rich import box
    from rich.table import Table as RichTable

    table = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for position, name in enumerate(columns):
        table.add_column(
            name,
            justify="left" if position < num_texts else "right",
            overflow="fold",
            min_width=max(map(len, name.split()), default=0),
        )
    return table
