"""Outputs of results: files written during the run, tables, overlays on the video, HTML reports."""
