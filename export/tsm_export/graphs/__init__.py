"""Checkpoints to ONNX graphs: tracing, precisions, channel layouts, parity."""
