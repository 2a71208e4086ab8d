"""What a model is on disk: the manifest, the files beside it, and where bundles are found."""
