"""Which settings after the scores are worth it: score videos once, try a grid, choose on validation."""

__all__: list[str] = []
