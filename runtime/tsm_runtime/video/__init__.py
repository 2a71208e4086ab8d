"""Containers to frames with presentation times in seconds."""
