"""Frames to training clips: the frame store, the clip data set, augmentation, sampling."""
