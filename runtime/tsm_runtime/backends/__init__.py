"""Clips to scores: one module a backend, one interface."""
