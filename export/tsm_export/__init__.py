"""Turn a checkpoint into a bundle that the runtime can run anywhere."""
