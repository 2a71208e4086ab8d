"""Sections of the configuration of a run."""
