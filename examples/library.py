from tsm_runtime import load, run, stream
from tsm_runtime.live.events import LiveSegment

with load("bundle") as model:
    result = run("video.mp4", model)
    for segment in result.segments:
        print(f"{segment.start_seconds:5.2f} to {segment.end_seconds:5.2f} s: {segment.label}")
    scores = result.scores  # of each interval, before merging
    print(scores.action.shape, scores.action.dtype, model.action_labels)

    for event in stream("video.mp4", model):  # or rtsp://..., /dev/video0, - for a pipe
        if isinstance(event, LiveSegment):
            print(f"{event.time:5.2f} s: {event.label} has ended, in the scene {event.scene}")
