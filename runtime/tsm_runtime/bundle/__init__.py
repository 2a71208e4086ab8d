"""Bundles on disk: the manifest, the model files, and the search for bundles."""
