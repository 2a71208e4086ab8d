"""The user's annotated videos: readers, checks, splits, views."""
