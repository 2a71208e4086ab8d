"""Packets to frames, so that a bad packet costs its own frames and no others."""

from __future__ import annotations

from collections import deque

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

_NUM_KEYS = 64
"""Key frames that are remembered: two are enough, except where every frame is one."""


class PacketDecoder:
    """Decodes a stream's packets, and remembers where a second decoder has to begin to continue.

    With several threads a decoder reports a bad packet late, and frames of its neighbours are lost with it.
    The way out is a second decoder with one thread, which takes the same packets: see `continued`.
    """

    def __init__(self, stream: VideoStream) -> None:
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
            packet: of the stream; None: give out what is held back.
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
        """Whether frames are missing after the last packet: several threads may drop an error there silently.

        Args:
            frame_ticks: length of a frame.
        """
        if self._last_ticks is None or self._latest_ticks is None or not self._is_in_order:
            return False
        return self._latest_ticks - self._last_ticks > 0.75 * frame_ticks

    def continued(self, stream: VideoStream) -> PacketDecoder:
        """Return a decoder that takes all packets again, and gives the frames that this one has not given."""
        after = PacketDecoder(stream)
        key = self._key_before_last()
        if key is None:
            after._num_skipped_frames = self._num_frames  # of its own class
        else:
            after._num_skipped_packets, after._skip_until = key, self._last_ticks
            after._num_skipped_frames = self.num_packets - key + 1  # at most
        return after

    def _key_before_last(self) -> int | None:
        """Return the number of the second-last key packet at or before the last frame that was given out."""
        if self._last_ticks is None or not self._is_in_order:
            return None
        numbers = [number for number, ticks in self._keys if ticks <= self._last_ticks]
        return numbers[-2] if len(numbers) > 1 else None

    def _without_known(self, frames: list[VideoFrame]) -> list[VideoFrame]:
        """Drop what the decoder before this one has given out."""
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
