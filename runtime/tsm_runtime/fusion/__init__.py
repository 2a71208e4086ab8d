"""Fusion of an ensemble: members' segments become one list, and weights are fitted to a ground truth."""
