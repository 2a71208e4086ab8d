"""Annotation in the browser, what to label next, and an HTTP service; over the runtime, without PyTorch."""
