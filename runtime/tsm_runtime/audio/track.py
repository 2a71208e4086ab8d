"""Choice of the audio track of a file."""

from __future__ import annotations

from av.audio.stream import AudioStream
from av.container import InputContainer

from tsm_runtime.errors import UsageError


def choose_track(container: InputContainer, track: str = "") -> AudioStream | None:
    """Choose the audio track of an open container.

    Args:
        container: open file.
        track: number of the track among the audio tracks, from 0, or its language (as "eng"); empty: the
            one that FFmpeg takes for the best.

    Returns:
        The track; None where the file has no audio track that can be decoded.

    Raises:
        UsageError: the file has audio, but not this track.
    """
    tracks = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not tracks:
        return None
    if not track:
        best = container.streams.best("audio")
        return best if isinstance(best, AudioStream) and best in tracks else tracks[0]
    for number, stream in enumerate(tracks):
        if track in (str(number), stream.metadata.get("language")):
            return stream
    raise UsageError(f"audio track {track!r} is not there; the file has {describe_tracks(container)}")


def describe_tracks(container: InputContainer) -> str:
    """Return the audio tracks of a container as "0 (eng, aac, 2 channels), 1 (...)"."""
    descriptions = []
    tracks = [stream for stream in container.streams.audio if stream.codec_context is not None]
    for number, stream in enumerate(tracks):
        context = stream.codec_context
        language = stream.metadata.get("language", "no language")
        descriptions.append(f"{number} ({language}, {context.name}, {context.channels} channels)")
    return ", ".join(descriptions)
