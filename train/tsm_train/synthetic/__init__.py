"""A drawn data set for temporal action localisation: a figure acts, idles and acts again, in drawn places.

The truth is exact to the frame and everything follows from a seed. Two pairs of actions are each other's
reversal in time, so that no single frame distinguishes them:

    truth = draw_video(Path("video.mp4"), seed=7)
    truth.segments[0]   # Segment(label="sitting down", start_seconds=1.36, end_seconds=3.2, score=1.0)

`python -m tsm_train.synthetic FOLDER` draws a whole data set.
"""
