"""Scores to segments: smoothing, thresholds, merging of equal neighbours."""
