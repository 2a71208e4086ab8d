"""From an untrimmed video to labelled segments: the lean runtime (numpy and av, no torch)."""

__version__ = "0.1.0"
