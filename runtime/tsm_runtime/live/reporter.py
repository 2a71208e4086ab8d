"""The events of a live run, and its counters."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from tsm_runtime._version import __version__
from tsm_runtime.live.backlog import Dropped, Gap, Moment, StreamEnded
from tsm_runtime.live.capture import CaptureCounts
from tsm_runtime.live.ensemble import SegmentWithScenes
from tsm_runtime.live.events import (
    FORMAT,
    Discontinuity,
    Drop,
    End,
    LiveGap,
    LiveSegment,
    OpenSegment,
    Resumption,
    SourceModel,
    Start,
    utc,
)
from tsm_runtime.live.frame_merging import delay_seconds, frame_lag
from tsm_runtime.models.member import Member
from tsm_runtime.video.sources import Source


class EventReporter:
    """Makes the events of one run.

    Args:
        source: the stream.
        members: the models.
        lookahead_seconds: of members whose segments are made of the scores of frames.
    """

    def __init__(self, source: Source, members: Sequence[Member], lookahead_seconds: float = 0.0) -> None:
        self.at = Moment(0.0, math.nan, time.monotonic())
        """The moment of the next events."""
        self._source = source
        self._members = tuple(members)
        self._lookahead_seconds = lookahead_seconds
        self.num_segments = self.num_dropped = self.num_gaps = 0
        self._open: dict[tuple[str, float], tuple[float, float]] = {}
        """End and score of the reported open segments, by label and start."""

    def start(self, drop: str, video_id: str, bundles: Sequence[str]) -> Start:
        """Return the first event; `bundles` holds the SHA-256 of each member's bundle, or nothing."""
        shas = bundles or [""] * len(self._members)
        models = tuple(
            _describe_model(member, sha, self._lookahead_seconds)
            for member, sha in zip(self._members, shas, strict=True)
        )
        return Start(
            wall=datetime.now(UTC),
            format=FORMAT,
            video=video_id or self._source.video_id,
            source=self._source.name,
            models=models,
            drop=drop,
            version=__version__,
        )

    def segments(self, found: Sequence[SegmentWithScenes]) -> Iterator[LiveSegment]:
        """Yield the events of segments that are over."""
        for each in found:
            self.num_segments += 1
            self._open.pop((each.segment.label, each.segment.start_seconds), None)
            yield LiveSegment(**self._now(), **self._describe(each))

    def open_segments(self, found: Sequence[SegmentWithScenes]) -> Iterator[OpenSegment]:
        """Yield the events of open segments that have changed."""
        before, self._open = self._open, {}
        for each in found:
            segment = each.segment
            key, state = (segment.label, segment.start_seconds), (segment.end_seconds, segment.score)
            self._open[key] = state
            if before.get(key) != state:
                yield OpenSegment(**self._now(), **self._describe(each))

    def gap(self, gap: Gap) -> LiveGap:
        """Return and count a gap."""
        self.num_gaps += 1
        return LiveGap(**self._now(), start=_six(gap.start_seconds), end=_six(gap.end_seconds))

    def drop(self, dropped: Dropped, members: Sequence[Member]) -> Drop:
        """Return and count intervals that were dropped for some members."""
        self.num_dropped += dropped.number
        spec = members[0].spec
        return Drop(
            **self._now(),
            start=_six(dropped.start * spec.stride_seconds),
            end=_six((dropped.stop - 1 + spec.num_overlapping) * spec.stride_seconds),
            intervals=dropped.number,
            model=", ".join(member.name for member in members if member.name),
        )

    def discontinuity(self, reason: str) -> Discontinuity:
        """Return a break."""
        return Discontinuity(**self._now(), reason=reason)

    def resumption(self, attempts: int) -> Resumption:
        """Return the end of a break."""
        return Resumption(**self._now(), attempts=attempts)

    def end(self, ended: StreamEnded, num_intervals: int, counts: CaptureCounts) -> End:
        """Return the last event."""
        self.at = ended.at if ended.at.seconds > self.at.seconds else self.at
        return End(
            **self._now(),
            reason=ended.reason,
            complete=ended.complete,
            frames=counts.frames,
            intervals=num_intervals,
            segments=self.num_segments,
            dropped=self.num_dropped,
            corrupt=counts.corrupt,
            gaps=self.num_gaps,
            reconnects=counts.reconnects,
        )

    def _now(self) -> dict[str, Any]:
        return {"wall": datetime.now(UTC), "time": _six(self.at.seconds)}

    def _describe(self, found: SegmentWithScenes) -> dict[str, Any]:
        segment, offset = found.segment, self.at.wall_offset
        scene = found.scenes[0] if found.scenes else None
        return {
            "label": segment.label,
            "start": _six(segment.start_seconds),
            "end": _six(segment.end_seconds),
            "score": _six(segment.score),
            "scene": None if scene is None else scene.label,
            "scene_score": None if scene is None else _six(scene.score),
            "start_wall": utc(offset + segment.start_seconds),
            "end_wall": utc(offset + segment.end_seconds),
            "delay_seconds": _six(time.monotonic() - self.at.arrived),
        }


def _describe_model(member: Member, bundle_sha256: str, lookahead_seconds: float) -> SourceModel:
    spec, rules = member.spec, member.rules
    lag = frame_lag(member, lookahead_seconds)
    return SourceModel(
        interval_seconds=spec.interval_seconds,
        stride_seconds=spec.stride_seconds if spec.num_overlapping > 1 else None,
        window_seconds=spec.window_seconds if spec.margin_seconds else None,
        smoothing_seconds=(rules if lag is None else lag.decoding).smoothing_seconds or None,
        min_duration_seconds=rules.min_duration_seconds or None,
        decoding=None if lag is None else lag.decoding.method,
        lookahead_seconds=None if lag is None else _six(lag.lookahead * lag.step_seconds),
        delay_seconds=None if lag is None else _six(delay_seconds(member, lag)),
        backend=member.backend.name,
        bundle_sha256=bundle_sha256,
        name=member.name,
        weight=member.weight,
    )


def _six(value: float) -> float:
    return round(float(value), 6)
