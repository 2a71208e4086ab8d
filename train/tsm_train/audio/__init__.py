"""The sound branch of a model: its data, network and training."""
