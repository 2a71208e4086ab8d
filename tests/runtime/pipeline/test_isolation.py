"""Decoding in worker processes: the same results, and what crashes, hangs or grows costs one video."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from entry import Command
from media import cut, write_levels

from tsm_runtime.clips.options import ClipOptions
from tsm_runtime.clips.pool import FramePool
from tsm_runtime.clips.spec import ClipSpec
from tsm_runtime.clips.stream import ClipStream
from tsm_runtime.errors import UsageError, VideoError
from tsm_runtime.pipeline.isolation import IsolatedClips, Isolation, Limits
from tsm_runtime.video.reader import VideoReader

DARK, GREY, BRIGHT = 40, 128, 230
SPECS = (
    ClipSpec(interval_seconds=0.5, num_frames=4, size=32),
    ClipSpec(interval_seconds=0.2, num_frames=2, size=16),
)


def isolated(path: Path, isolation: Isolation, options: ClipOptions | None = None) -> IsolatedClips:
    pools = {spec: FramePool() for spec in SPECS}
    return IsolatedClips(
        path,
        SPECS,
        options or ClipOptions(batch_size=3),
        isolation,
        cancelled=threading.Event(),
        memory=pools,
    )


def test_clips_and_all_that_was_noticed_are_the_same(tmp_path: Path) -> None:
    whole = write_levels(tmp_path / "v.mp4", [(n * 9, 0.3) for n in range(20)])
    broken = cut(write_levels(tmp_path / "w.mkv", [(n * 9, 0.3) for n in range(20)]), 0.6)
    options = ClipOptions(batch_size=3)
    with Isolation() as isolation:
        for path in (whole, broken):
            with VideoReader(path) as reader:
                here = ClipStream(reader, SPECS, options)
                expected = [(b.spec, b.indices.tolist(), b.frames.copy()) for b in here]
            there = isolated(path, isolation)
            found = [(b.spec, b.indices.tolist(), b.frames.copy()) for b in there]
            assert [entry[:2] for entry in found] == [entry[:2] for entry in expected]
            assert all((a[2] == b[2]).all() for a, b in zip(found, expected, strict=True))
            assert there.duration_seconds == here.duration_seconds
            for spec in SPECS:
                assert list(there.warnings(spec)) == list(here.warnings(spec))
                assert there.builders[spec].gaps == here.builders[spec].gaps
                assert there.builders[spec].breaks == here.builders[spec].breaks


def test_errors_are_the_same_and_the_worker_goes_on(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    good = write_levels(tmp_path / "v.mp4", [(DARK, 1.04)])
    with Isolation() as isolation:
        for name in ("bad.mp4", "gone.mp4"):
            with pytest.raises(VideoError) as there:
                list(isolated(tmp_path / name, isolation))
            with pytest.raises(VideoError) as here:
                VideoReader(tmp_path / name)
            assert str(there.value) == str(here.value)
        assert len(list(isolated(good, isolation))) >= 2
        assert len(isolation._all) == 1


def test_a_decoder_that_crashes_costs_its_video(tmp_path: Path) -> None:
    video = write_levels(tmp_path / "v.mp4", [(DARK, 8.04)])
    with Isolation() as isolation:
        clips = iter(isolated(video, isolation))
        next(clips)
        os.kill(isolation._all[0]._process.pid, signal.SIGSEGV)
        with pytest.raises(VideoError, match=r"v\.mp4: its decoder crashed \(SIGSEGV\)"):
            list(clips)
        assert len(list(isolated(video, isolation))) > 5


def test_a_decoder_that_hangs_costs_its_video(tmp_path: Path) -> None:
    video = write_levels(tmp_path / "hang.mp4", [(DARK, 8.04)])
    with Isolation(Limits(seconds=3.0)) as isolation:
        clips = iter(isolated(video, isolation))
        next(clips)
        os.kill(isolation._all[0]._process.pid, signal.SIGSTOP)
        with pytest.raises(VideoError, match=r"hang\.mp4: decoding took longer than 3 s \(--time-limit\)"):
            list(clips)
    with Isolation() as isolation:
        assert list(isolated(video, isolation))


def write_bomb(path: Path) -> Path:
    """Three small packets of pictures that take 54 MB each."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 6000, 6000, "yuvj420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((9000, 6000), np.uint8), "yuvj420p")
        for number in range(3):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def seconds_read(clips: IsolatedClips) -> float:
    """Return how much of a video could be decoded."""
    try:
        list(clips)
    except VideoError:
        return 0.0
    return clips.duration_seconds


def test_a_bomb_costs_its_video(tmp_path: Path) -> None:
    bomb = write_bomb(tmp_path / "bomb.mkv")
    assert bomb.stat().st_size < 3_000_000
    with Isolation(Limits(memory_mebibytes=160)) as limited, Isolation() as free:
        assert seconds_read(isolated(bomb, limited)) < 3.0
        assert seconds_read(isolated(bomb, free)) == 3.0
        assert seconds_read(isolated(write_levels(tmp_path / "v.mp4", [(DARK, 1.0)]), limited)) == 1.0


def test_cancelling_ends_the_worker(tmp_path: Path) -> None:
    video = write_levels(tmp_path / "v.mp4", [(DARK, 30.0)])
    with Isolation() as isolation:
        clips = isolated(video, isolation)
        reading = iter(clips)
        next(reading)
        clips.cancelled.set()
        assert len(list(reading)) < 20
        assert not isolation._all[0].is_alive


@pytest.mark.parametrize("limits", [{"memory_mebibytes": 10}, {"seconds": 0}, {"seconds": -1.0}])
def test_limits_that_nothing_could_keep_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected"):
        Limits(**limits)  # type: ignore[arg-type]


def test_the_command_isolates(
    run: Command, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("set").mkdir()
    write_levels(Path("set/a.mp4"), [(DARK, 1.5), (GREY, 0.54)])
    write_levels(Path("set/b.mp4"), [(BRIGHT, 1.5), (GREY, 0.54)])
    Path("set/c.mp4").write_text("no video")
    plain = run("set", "-m", tiny_bundle, "-o", "plain.json")
    limits = ("--isolate", "--memory-limit", 2000, "--time-limit", 60)
    for jobs in (1, 3):
        done = run("set", "-m", tiny_bundle, "-o", "isolated.json", *limits, "--jobs", jobs)
        assert (done.code, done.err) == (plain.code, plain.err)
        assert Path("isolated.json").read_bytes() == Path("plain.json").read_bytes()
    refused = run("set", "-m", tiny_bundle, "--isolate", "--hwdec", "cuda")
    assert (refused.code, refused.err) == (
        2,
        "tsm-run: --isolate decodes on the CPU: leave out --hwdec cuda\n",
    )
