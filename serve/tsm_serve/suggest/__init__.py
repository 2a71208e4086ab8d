"""Ranking of videos and moments by what labelling them would teach a model."""
