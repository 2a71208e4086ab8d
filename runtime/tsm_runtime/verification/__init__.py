"""Verification of a bundle: its model files on this machine against the fp32 ONNX file on the CPU."""
