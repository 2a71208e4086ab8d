"""The whole way for files: read, cut, score, smooth, merge, fuse."""
