"""Running plans on a GPU: its memory, the check that a plan fits, and the buffers of batches in flight."""

__all__: list[str] = []
