"""TensorRT 10.12 and newer, 11.x, and TensorRT for RTX: building plans and running them."""
