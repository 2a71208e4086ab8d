"""Segments as files, one module per family of formats; `read_write` chooses between them."""
