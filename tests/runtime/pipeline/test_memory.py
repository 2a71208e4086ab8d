"""Memory that pictures take: given back at once, and used again."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import numpy as np
import pytest
from av import VideoFrame
from hypothesis import given
from hypothesis import strategies as st
from media import counted, write_video

from tsm_runtime.clips.options import ClipOptions
from tsm_runtime.clips.pool import FramePool
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.errors import RunError
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.reader import VideoReader


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("media") / "v.mkv", counted(60))


def test_a_converted_frame_is_gone_without_the_garbage_collector(video: Path) -> None:
    """A 1080p frame takes 3 MB; hundreds of them would wait for the collector."""
    convert = FrameConverter(16)
    gc.collect()
    before = sum(type(thing) is VideoFrame for thing in gc.get_objects())
    gc.disable()
    try:
        with VideoReader(video) as reader:
            for timed in reader.frames():
                convert(timed.frame)
            del timed
        after = sum(type(thing) is VideoFrame for thing in gc.get_objects())
    finally:
        gc.enable()
    assert after - before <= 2  # the last one, and what it was made into


@given(st.integers(1, 7), st.integers(0, 3))
def test_every_array_comes_back_but_those_that_were_given_out(
    video: Path, batch_size: int, num_kept: int
) -> None:
    """Also where the end cuts off an interval, and where the stream is left early."""
    made: list[np.ndarray] = []

    def make(shape: tuple[int, ...]) -> np.ndarray:
        made.append(np.empty(shape, np.uint8))
        return made[-1]

    spec = ClipSpec(interval_seconds=0.3, num_frames=2, size=8)
    pool = FramePool(make)
    kept = []
    with VideoReader(video) as reader:
        stream = iter(ClipStream(reader, spec, ClipOptions(batch_size=batch_size), memory={spec: pool}))
        for batch in stream:
            assert batch.memory is not None
            if len(kept) < num_kept:
                kept.append(batch.memory)
            else:
                pool.give(batch.memory)
            if num_kept == 3:
                break
        del stream
    shape = (batch_size, 2, 8, 8, 3)
    back = [pool.take(shape) for _ in range(len(made) - len(kept))]
    assert len(made) <= num_kept + 2
    assert {id(array) for array in [*back, *kept]} == {id(array) for array in made[: len(back) + len(kept)]}
    assert len(made) == len(back) + len(kept)


def test_a_pool_gives_no_array_twice() -> None:
    pool = FramePool()
    taken: list[int] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        for _ in range(200):
            array = pool.take((4,))
            array[:] = number
            with lock:
                taken.append(id(array))
            assert array.tolist() == [number] * 4
            pool.give(array)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(taken)) <= 4


def test_shapes_are_kept_apart() -> None:
    pool = FramePool()
    small = pool.take((1, 2))
    pool.give(small)
    assert pool.take((2, 1)) is not small
    assert pool.take((1, 2)) is small


def test_more_memory_than_there_is_names_the_way_out() -> None:
    with pytest.raises(RunError, match=r"no memory for a batch of 1099511627776 .*--batch"):
        FramePool().take((2**40, 8, 256, 256, 3))
