"""Log-mel frames of all sound of a file."""

from __future__ import annotations

from pathlib import Path

from tsm_runtime.audio.growing import GrowingTrack
from tsm_runtime.audio.patches import SoundTrack
from tsm_runtime.audio.reader import SILENT, TrackReader, is_silent
from tsm_runtime.audio.spec import SoundSpec


def read_track(path: Path, spec: SoundSpec) -> tuple[SoundTrack, tuple[str, ...]]:
    """Read the log-mel frames of a video's sound.

    Returns:
        The track, without frames where the video has no sound or a silent one, and warnings.

    Raises:
        VideoError: the file cannot be opened.
        UsageError: the requested track is not there.
    """
    with TrackReader(path, channels=spec.channels, track=spec.track) as reader:
        if not reader.has_track:
            return SoundTrack.silent(spec), ("no audio track; scored by its pictures alone",)
        track = GrowingTrack(spec, reader.placing)
        for begin, samples in reader.pieces():
            track.add(begin, samples)
        track.finish()
        if is_silent(track.peak):
            return SoundTrack.silent(spec), (*reader.warnings(), SILENT, "scored by its pictures alone")
        return track.track(), reader.warnings()
