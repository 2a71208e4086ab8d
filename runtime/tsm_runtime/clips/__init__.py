"""Frames to clips: which frames an interval gets, and the batches made of them."""
