"""Several views of one scene, placed on one time line."""
