"""Serving with Triton Inference Server: a bundle's model in a model repository, and a client for it."""
