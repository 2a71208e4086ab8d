"""CUDA memory and streams, shared by the backends that run on an NVIDIA GPU."""
