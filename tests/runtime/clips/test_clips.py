"""Which frames fill which clip: against the written definition, for any timing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.clips.builder import ClipBatch, ClipBuilder
from tsm_runtime.clips.spec import ClipSpec, count_intervals, frame_indices


def clips_of(
    times: Sequence[float], length: float, spec: ClipSpec, batch_size: int = 1, **window: int | None
) -> tuple[dict[int, list[int]], ClipBuilder, list[int]]:
    """Frame number at each place of each interval, the builder, and the sizes of the batches."""
    builder = ClipBuilder(spec, batch_size, **window)  # type: ignore[arg-type]
    batches: list[ClipBatch] = []
    for number, (start, end) in enumerate(zip(times, [*times[1:], length], strict=True)):
        picture = np.full((1, 1, 3), number, np.uint8)
        batches += builder.push(start, end, lambda picture=picture: picture)
    batches += builder.finish()
    clips = {
        int(k): clip[:, 0, 0, 0].tolist()
        for b in batches
        for k, clip in zip(b.indices, b.frames, strict=True)
    }
    return clips, builder, [len(batch.indices) for batch in batches]


def by_definition(times: Sequence[float], length: float, spec: ClipSpec) -> dict[int, list[int]]:
    """Place i of interval k shows the last frame with pts <= k*s + t/2 - w/2 + (i + 1/2) * w/T + 1e-6.

    Before the first frame it is the first one; intervals are those with k*s + t <= length.
    """
    t, s, w = spec.interval_seconds, spec.stride_seconds, spec.window_seconds
    return {
        k: [
            max([0, *(n for n, time in enumerate(times) if time <= moment + 1e-6)])
            for moment in [
                k * s + t / 2 - w / 2 + (i + 0.5) * w / spec.num_frames for i in range(spec.num_frames)
            ]
        ]
        for k in range(math.ceil(length / s) + 1)
        if k * s + t <= length + 1e-6 * s and not in_a_gap(k * s, [*times, length], t)
    }


def in_a_gap(start: float, bounds: Sequence[float], t: float) -> bool:
    """No frame begins in the interval, and those around it are further apart than t."""
    return any(
        later - earlier > t + 1e-6 and earlier < start - 1e-9 and later > start + t - 1e-9
        for earlier, later in pairwise(bounds)
    )


def video_times(max_step: int) -> st.SearchStrategy[list[int]]:
    """Steps in milliseconds between frames, the last one the length of the last frame."""
    return st.lists(st.integers(0, max_step), min_size=1, max_size=120).filter(lambda steps: sum(steps) > 0)


specs = st.builds(
    lambda t, num_frames: ClipSpec(interval_seconds=t, num_frames=num_frames, size=1),
    st.sampled_from([0.25, 0.5, 1.0, 0.3, 1 / 3, 1.1]),
    st.integers(1, 9),
)
wide_specs = st.builds(
    lambda t, num_frames, window, parts: ClipSpec(
        interval_seconds=t,
        num_frames=num_frames,
        size=1,
        window_seconds=window * t,
        stride_seconds=t / parts,
    ),
    st.sampled_from([0.25, 0.5, 1.0, 0.3]),
    st.integers(1, 9),
    st.sampled_from([1.0, 1.5, 2.0, 3.7, 8.0]),
    st.integers(1, 5),
)


@given(video_times(80), specs, st.integers(1, 9))
def test_equals_the_definition(steps: list[int], spec: ClipSpec, batch_size: int) -> None:
    bounds = (np.cumsum([0, *steps]) / 1000).tolist()
    clips, builder, sizes = clips_of(bounds[:-1], bounds[-1], spec, batch_size)
    assert clips == by_definition(bounds[:-1], bounds[-1], spec)
    assert (builder.gaps, builder.breaks) == ([], set())
    assert all(size == batch_size for size in sizes[:-1])
    assert sum(sizes) == count_intervals(bounds[-1], spec.interval_seconds)


@given(video_times(2000), specs, st.integers(1, 9))
def test_equals_the_definition_with_gaps(steps: list[int], spec: ClipSpec, batch_size: int) -> None:
    bounds = (np.cumsum([0, *steps]) / 1000).tolist()
    t = spec.interval_seconds
    clips, builder, _ = clips_of(bounds[:-1], bounds[-1], spec, batch_size)
    assert clips == by_definition(bounds[:-1], bounds[-1], spec)
    gaps = [(a, b) for a, b in pairwise(bounds) if b - a > t + 1e-6]
    assert builder.gaps == gaps
    # No segment joins across a gap: between the frames around it lies a break, or an interval left out.
    for start, end in gaps:
        before, after = count_intervals(start, t), count_intervals(end, t)
        assert after in builder.breaks or set(range(before + 1, after)) - set(clips)


@given(video_times(500), specs, st.integers(0, 12), st.integers(1, 12))
def test_a_window_gives_the_same_clips(steps: list[int], spec: ClipSpec, first: int, count: int) -> None:
    bounds = (np.cumsum([0, *steps]) / 1000).tolist()
    whole, builder, _ = clips_of(bounds[:-1], bounds[-1], spec)
    part, windowed, _ = clips_of(
        bounds[:-1], bounds[-1], spec, 2, first_interval=first, stop_interval=first + count
    )
    assert part == {k: clip for k, clip in whole.items() if first <= k < first + count}
    t = spec.interval_seconds
    overlapping = [(a, b) for a, b in builder.gaps if b > first * t and a < (first + count) * t]
    assert windowed.gaps == overlapping


@given(video_times(80), wide_specs, st.integers(1, 9))
def test_wide_and_overlapping_windows_equal_the_definition(
    steps: list[int], spec: ClipSpec, batch_size: int
) -> None:
    bounds = (np.cumsum([0, *steps]) / 1000).tolist()
    clips, builder, sizes = clips_of(bounds[:-1], bounds[-1], spec, batch_size)
    assert clips == by_definition(bounds[:-1], bounds[-1], spec)
    assert list(clips) == sorted(clips)
    assert (builder.gaps, builder.breaks) == ([], set())
    assert all(size == batch_size for size in sizes[:-1])
    assert sum(sizes) == spec.num_intervals(bounds[-1])


@given(video_times(2000), wide_specs, st.integers(1, 3))
def test_wide_and_overlapping_windows_with_gaps(steps: list[int], spec: ClipSpec, batch_size: int) -> None:
    bounds = (np.cumsum([0, *steps]) / 1000).tolist()
    t, s = spec.interval_seconds, spec.stride_seconds
    clips, builder, _ = clips_of(bounds[:-1], bounds[-1], spec, batch_size)
    assert clips == by_definition(bounds[:-1], bounds[-1], spec)
    assert builder.gaps == [(a, b) for a, b in pairwise(bounds) if b - a > t + 1e-6]
    # Intervals of both sides of a gap never stand side by side without a break between them.
    for start, end in builder.gaps:
        before = [k for k in clips if k * s <= start + 1e-6]
        after = [k for k in clips if k * s + t > end + 1e-6]
        if before and after and max(before) + 1 == min(after):
            assert min(after) in builder.breaks
        assert not set(before) & set(after)


@given(video_times(500), wide_specs, st.integers(0, 12), st.integers(1, 12))
def test_a_part_with_wide_windows_gives_the_same_clips(
    steps: list[int], spec: ClipSpec, first: int, count: int
) -> None:
    bounds = (np.cumsum([0, *steps]) / 1000).tolist()
    whole, _, _ = clips_of(bounds[:-1], bounds[-1], spec)
    part, _, _ = clips_of(bounds[:-1], bounds[-1], spec, 2, first_interval=first, stop_interval=first + count)
    assert part == {k: clip for k, clip in whole.items() if first <= k < first + count}


@given(video_times(100), wide_specs)
def test_training_takes_the_same_frames_of_wide_windows(steps: list[int], spec: ClipSpec) -> None:
    bounds = (np.cumsum([0, *steps]) / 1000).tolist()
    clips, _, _ = clips_of(bounds[:-1], bounds[-1], spec)
    moments = {k: spec.moments_from(k * spec.stride_seconds) for k in clips}
    times = np.array(bounds[:-1])
    assert clips == {k: frame_indices(times, each).tolist() for k, each in moments.items()}


def test_where_a_window_ends_by_hand() -> None:
    """A window of 2 s around intervals of 1 s, frames every 0.5 s: 0, 0.5 ... 2.5; two places a second."""
    spec = ClipSpec(interval_seconds=1.0, num_frames=4, size=1, window_seconds=2.0)
    clips, _, _ = clips_of([0.5 * n for n in range(6)], 3.0, spec)
    # Moments of interval 0: -0.25, 0.25, 0.75, 1.25; of interval 2: 1.75, 2.25, 2.75, 3.25.
    assert clips == {0: [0, 0, 1, 2], 1: [1, 2, 3, 4], 2: [3, 4, 5, 5]}


def test_no_window_no_stride_is_the_same_spec() -> None:
    plain = ClipSpec(interval_seconds=0.5)
    assert ClipSpec(interval_seconds=0.5, window_seconds=0.5, stride_seconds=0.5) == plain
    assert hash(ClipSpec(interval_seconds=0.5, stride_seconds=0.5000001)) == hash(plain)
    assert ClipSpec(interval_seconds=1.0, stride_seconds=0.333333).num_overlapping == 3


def test_overlapping_windows_share_pictures() -> None:
    spec = ClipSpec(interval_seconds=0.5, num_frames=4, size=1, window_seconds=2.0, stride_seconds=0.125)
    builder = ClipBuilder(spec, 4)
    requested: list[int] = []
    held: list[int] = []
    for number in range(250):

        def picture(number: int = number) -> np.ndarray:
            requested.append(number)
            return np.zeros((1, 1, 3), np.uint8)

        list(builder.push(number / 25, (number + 1) / 25, picture))
        clips = builder._filling.values()
        held.append(len({id(picture) for clip in clips for picture in clip.values()}))
    list(builder.finish())
    assert len(requested) == len(set(requested))
    assert max(held) <= 2.0 * 25  # pictures of the time that open windows reach over
    assert len(builder._filling) == 0


@given(video_times(100), specs)
def test_training_takes_the_same_frames(steps: list[int], spec: ClipSpec) -> None:
    bounds = (np.cumsum([0, *steps]) / 1000).tolist()
    clips, _, _ = clips_of(bounds[:-1], bounds[-1], spec)
    times = np.array(bounds[:-1])
    assert clips == {k: frame_indices(times, spec.moments(k)).tolist() for k in clips}


def test_a_picture_is_made_once_and_only_if_needed() -> None:
    spec = ClipSpec(interval_seconds=0.5, num_frames=2, size=1)
    builder = ClipBuilder(spec, 1)
    requested: list[int] = []
    for number in range(50):  # 25 fps, 4 pictures a second

        def picture(number: int = number) -> np.ndarray:
            requested.append(number)
            return np.zeros((1, 1, 3), np.uint8)

        list(builder.push(number / 25, (number + 1) / 25, picture))
    assert requested == [3, 9, 15, 21, 28, 34, 40, 46]


def test_a_frame_of_its_moment_counts_within_a_microsecond() -> None:
    spec = ClipSpec(interval_seconds=1.0, num_frames=1, size=1)
    for late, wanted in ((0.9e-6, 1), (1.1e-6, 0)):
        clips, _, _ = clips_of([0.0, 0.5 + late], 1.0, spec)
        assert clips == {0: [wanted]}


@pytest.mark.parametrize(
    ("length", "t", "count"),
    [(1.0, 0.5, 2), (0.9999999, 0.5, 2), (0.999, 0.5, 1), (0.3, 0.1, 3), (0.0, 1, 0)],
)
def test_the_number_of_intervals(length: float, t: float, count: int) -> None:
    assert count_intervals(length, t) == count


@pytest.mark.parametrize("jump", [1e6, 1e9, 1e15])
def test_a_leap_of_ages_costs_nothing(jump: float) -> None:
    spec = ClipSpec(interval_seconds=0.25, num_frames=8, size=1)
    times = [n / 25 for n in range(25)]
    clips, builder, _ = clips_of([*times, *(jump + time for time in times)], jump + 1, spec)
    assert {k for k in clips if k < 100} == {0, 1, 2, 3}
    assert len(clips) <= 8
    assert builder.gaps == [(0.96, jump)]


def test_a_spec_and_a_batch_check_themselves() -> None:
    for wrong in ({"interval_seconds": 0.0}, {"interval_seconds": -1.0}, {"interval_seconds": math.nan}):
        with pytest.raises(ValueError, match="positive"):
            ClipSpec(**wrong)
    for wrong, words in (
        ({"window_seconds": 0.9}, "window 0.9 s: expected the interval of 1 s or more"),
        ({"window_seconds": math.nan}, "window nan s"),
        ({"window_seconds": -1.0}, "window -1 s"),
        (
            {"stride_seconds": 0.4},
            r"stride 0.4 s: expected the interval of 1 s or a whole part of it \(0",
        ),
        ({"stride_seconds": 1.5}, "stride 1.5 s"),
        ({"stride_seconds": -0.5}, "stride -0.5 s"),
        ({"stride_seconds": math.nan}, "stride nan s"),
        ({"stride_seconds": 1e-320}, "stride 9.99989e-321 s"),
        ({"stride_seconds": 1 / 65}, "expected a window of 64 strides or less"),
        ({"window_seconds": 20, "stride_seconds": 0.25}, "window 20 s with stride 0.25 s"),
    ):
        with pytest.raises(ValueError, match=words):
            ClipSpec(interval_seconds=1.0, **wrong)
    with pytest.raises(ValueError, match=r"expected uint8 \(2, 1, 1, 1, 3\), got uint8 \(1, 1, 1, 1, 3\)"):
        ClipBatch(
            np.array([0, 1]),
            np.zeros((1, 1, 1, 1, 3), np.uint8),
            ClipSpec(interval_seconds=1, num_frames=1, size=1),
        )
