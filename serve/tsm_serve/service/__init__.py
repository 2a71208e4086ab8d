"""HTTP service: a video in, a job, segments out; streams and metrics."""
