"""Training and validation of a model, and the files of a run."""
