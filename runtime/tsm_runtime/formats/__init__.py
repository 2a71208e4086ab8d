"""Segments as files, one module per family of formats; `tsm_runtime.outputs` chooses between them."""

from __future__ import annotations

__all__: list[str] = []
