"""INT8: calibration, ranges, the layers left out, and the QDQ graph."""
