"""TensorRT plans from ONNX bytes: one path for TensorRT 10.12 and newer, 11.x, and TensorRT for RTX."""

__all__: list[str] = []
