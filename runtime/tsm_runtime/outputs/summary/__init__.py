"""Summary of a run for analysts: seconds and bouts per class and video, as a table and a picture."""
