"""docs/configuration.md is what `tsm-train --keys` prints."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tsm_train.config import Config
from tsm_train.config_reference import configuration_reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def test_the_page_is_generated() -> None:
    assert PAGE.read_text(encoding="utf-8") == configuration_reference(), (
        "tsm-train --keys > docs/configuration.md"
    )


def test_every_key_has_a_row() -> None:
    text = configuration_reference()
    for section in msgspec.structs.fields(Config):
        inner = msgspec.structs.fields(section.type) if hasattr(section.type, "__struct_fields__") else ()
        for field in inner:
            assert f"| `{section.name}.{field.name}` |" in text
    assert '| `train.schedule` | `constant`, `cosine`, `step` | `"cosine"` |' in text
    assert "| `name` | text | required |" in text
