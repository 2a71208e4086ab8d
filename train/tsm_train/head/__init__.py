"""The temporal head: a small network over the features of all frames of a video."""
