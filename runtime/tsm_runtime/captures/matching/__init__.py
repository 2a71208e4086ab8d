"""Where a video lies on another's time line, found by what both of them recorded."""
