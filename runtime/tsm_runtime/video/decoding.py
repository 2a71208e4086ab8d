"""Decoding of packets; a bad packet loses its own frames and no others."""

from __future__ import annotations

from collections import deque

import av
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

_NUM_KEYS = 64
"""Number of key frames remembered: two are enough, unless every frame is a key frame."""


class PacketDecoder:
    """Decodes the packets of a stream, and remembers where a second decoder has to start to continue.

    A decoder with several threads reports a bad packet late, and loses frames of its neighbours with it. A
    second decoder with one thread then decodes the same packets again: see `continued`.
    """

    def __init__(self, stream: VideoStream | VideoCodecContext) -> None:
        self._stream = stream
        self.num_packets = 0
        self._num_frames = 0
        self._is_in_order = True
        self._last_ticks: int | None = None  # of frames
        self._latest_ticks: int | None = None  # of packets
        self._keys: deque[tuple[int, int]] = deque(maxlen=_NUM_KEYS)
        self._num_skipped_packets = 0
        self._num_skipped_frames = 0
        self._skip_until: int | None = None

    def decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame] | None:
        """Return the frames that a packet completes, or None if it is bad.

        Args:
            packet: packet of the stream; None: flush the decoder.
        """
        number = self.num_packets
        self.num_packets += 1
        if number < self._num_skipped_packets and packet is not None:
            return []
        if packet is not None and packet.pts is not None and not packet.is_discard:
            self._latest_ticks = max(packet.pts, self._latest_ticks or packet.pts)
            if packet.is_keyframe:
                self._keys.append((number, packet.pts))
        try:
            frames = self._stream.decode(packet)
        except av.error.FFmpegError:
            return None
        frames = self._without_known(frames)
        self._note(frames)
        return frames

    def _note(self, frames: list[VideoFrame]) -> None:
        self._num_frames += len(frames)
        for frame in frames:
            if frame.pts is None or (self._last_ticks is not None and frame.pts <= self._last_ticks):
                self._is_in_order = False
            self._last_ticks = frame.pts

    def has_lost_end(self, frame_ticks: float) -> bool:
        """Return whether frames are missing after the last packet, where threads may drop an error silently.

        Args:
            frame_ticks: length of a frame.
        """
        if self._last_ticks is None or self._latest_ticks is None or not self._is_in_order:
            return False
        return self._latest_ticks - self._last_ticks > 0.75 * frame_ticks

    def continued(self, stream: VideoStream | VideoCodecContext) -> PacketDecoder:
        """Return a decoder that decodes all packets again and returns only the frames still missing."""
        after = PacketDecoder(stream)
        key = self._key_before_last()
        if key is None:
            after._num_skipped_frames = self._num_frames  # of its own class
        else:
            after._num_skipped_packets, after._skip_until = key, self._last_ticks
            after._num_skipped_frames = self.num_packets - key + 1  # at most
        return after

    def _key_before_last(self) -> int | None:
        """Return the number of the second-last key packet at or before the last returned frame."""
        if self._last_ticks is None or not self._is_in_order:
            return None
        numbers = [number for number, ticks in self._keys if ticks <= self._last_ticks]
        return numbers[-2] if len(numbers) > 1 else None

    def _without_known(self, frames: list[VideoFrame]) -> list[VideoFrame]:
        """Drop the frames that the previous decoder has returned."""
        kept = []
        for frame in frames:
            known = self._num_skipped_frames > 0
            if known and self._skip_until is not None:
                known = frame.pts is None or frame.pts <= self._skip_until
            if known:
                self._num_skipped_frames -= 1
            else:
                self._num_skipped_frames = 0
                kept.append(frame)
        return kept
