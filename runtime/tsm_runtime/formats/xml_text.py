"""Parsing of XML text by others: no document type, and so no entities that could fill the memory."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers import expat

from tsm_runtime.errors import UsageError


def parse_xml(path: Path, text: str) -> Element:
    """Return the root of an XML text without a document type, and so without entities of its own.

    Raises:
        UsageError: the text is not XML, or declares a document type; the message names file and line.
    """
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> NoReturn:
        line = parser.CurrentLineNumber
        raise UsageError(f"{path}, line {line}: declares a document type or entities; remove the declaration")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(text.encode("utf-8", "surrogatepass"), True)
    except expat.ExpatError as error:
        raise UsageError(f"{path}, line {error.lineno}: not XML: {expat.ErrorString(error.code)}") from error
    return builder.close()
