"""Offset of a video on the time line of another, found by matching sound or pictures."""
