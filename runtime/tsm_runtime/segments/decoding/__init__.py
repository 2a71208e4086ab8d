"""Frame scores to segments: named methods of decoding, refined bounds, non-maximum suppression."""
