"""Several videos at once: what each gives, and what becomes of faults in any stage."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import BrightnessBackend, QueueBackend, brightness_member
from hypothesis import given, settings
from hypothesis import strategies as st
from media import cut, write_levels

from tsm_runtime.backends.base import Scores
from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.captures.selection import CapturePlan, plan_of_video
from tsm_runtime.commands import run as cli
from tsm_runtime.commands import run_all as batch_run
from tsm_runtime.commands.run_all import run_all
from tsm_runtime.errors import RunError, VideoError
from tsm_runtime.models.choice import BackendRequest
from tsm_runtime.models.device_models import DeviceModels
from tsm_runtime.models.member import Member
from tsm_runtime.models.opening import closing_members, open_member
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run, run_videos
from tsm_runtime.results import Result
from tsm_runtime.video.convert import FrameConverter
from tsm_runtime.video.finding import VideoInput
from tsm_runtime.video.reader import VideoReader


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[VideoInput]:
    """Seven videos: of 0.3 to 6 s, one of them no video, one cut."""
    folder = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(3)
    paths = []
    for number, seconds in enumerate((6.0, 0.3, 2.0, 0.7, 4.0)):
        levels = [(int(rng.choice([20, 128, 235])), 0.1) for _ in range(round(seconds * 10))]
        paths.append(write_levels(folder / f"v{number}.mkv", levels))
    paths.insert(2, folder / "none.mkv")
    paths[2].write_bytes(b"no video")
    paths.append(cut(write_levels(folder / "whole.mkv", [(20, 1.0), (235, 1.0)] * 3), 0.6))
    return [VideoInput(path, path.stem) for path in paths]


def plans(videos: list[VideoInput]) -> list[CapturePlan]:
    return [plan_of_video(video) for video in videos]


def members_of(kind: str) -> list[Member]:
    """One model, or an ensemble whose second member has a grid of its own and two batches in flight."""
    members = [brightness_member(), replace(brightness_member(0.3, 3, 16), backend=QueueBackend())]
    return members[:1] if kind == "one" else [*members, brightness_member()]


def alone(given: VideoInput, members: list[Member], options: Options) -> Result | str:
    try:
        return run(given.path, members, options, video_id=given.video_id)
    except VideoError as error:
        return str(error)


def no_threads() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name == "decode"]


@settings(max_examples=12)
@given(
    order=st.permutations(range(7)),
    jobs=st.integers(1, 9),
    batch_size=st.integers(1, 9),
    kind=st.sampled_from(["one", "ensemble"]),
)
def test_several_at_once_give_what_each_gives_alone(
    videos: list[VideoInput], order: list[int], jobs: int, batch_size: int, kind: str
) -> None:
    given = [videos[i] for i in order]
    options = Options(batch_size=batch_size)
    found = list(run_videos(given, members_of(kind), options, jobs=jobs))
    assert [video for video, _ in found] == given
    for video, outcome in found:
        expected = alone(video, members_of(kind), options)
        assert (str(outcome) if isinstance(outcome, VideoError) else outcome) == expected
        if isinstance(outcome, Result) and isinstance(expected, Result) and kind == "one":
            assert outcome.scores is not None
            assert expected.scores is not None
            np.testing.assert_array_equal(outcome.scores.action, expected.scores.action)
            np.testing.assert_array_equal(outcome.scores.indices, expected.scores.indices)
    assert no_threads()


def test_batches_are_full_across_videos(videos: list[VideoInput]) -> None:
    (member,) = members_of("one")
    assert isinstance(member.backend, BrightnessBackend)
    found = list(run_videos(videos, [member], Options(batch_size=5), jobs=3))
    num_clips = sum(result.num_intervals for _, result in found if isinstance(result, Result))
    assert num_clips > 20
    assert member.backend.batch_sizes == [5] * (num_clips // 5) + [num_clips % 5] * (num_clips % 5 > 0)


def test_one_at_a_time_does_not_mix_videos(videos: list[VideoInput]) -> None:
    (member,) = members_of("one")
    assert isinstance(member.backend, BrightnessBackend)
    for video, result in run_videos(videos, [member], Options(batch_size=5)):
        if isinstance(result, Result):
            wanted = [5] * (result.num_intervals // 5) + [result.num_intervals % 5]
            assert [size for size in member.backend.batch_sizes if size] == [s for s in wanted if s], video
            member.backend.batch_sizes.clear()


def test_at_most_so_many_are_open(videos: list[VideoInput], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    held = 0
    lock = threading.Lock()
    original, original_close = VideoReader.__enter__, VideoReader.__exit__

    def enter(self: VideoReader) -> VideoReader:
        nonlocal held
        with lock:
            held += 1
            opened.append(held)
        return original(self)

    def leave(self: VideoReader, *args: object) -> None:
        nonlocal held
        with lock:
            held -= 1
        original_close(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(VideoReader, "__enter__", enter)
    monkeypatch.setattr(VideoReader, "__exit__", leave)
    list(run_videos(videos, members_of("one"), Options(), jobs=3))
    assert max(opened) <= 3
    assert held == 0


def test_the_batch_size_is_that_of_the_backend_where_none_is_requested(videos: list[VideoInput]) -> None:
    (member,) = members_of("one")
    assert isinstance(member.backend, BrightnessBackend)
    member.backend.best_batch = 4
    run(videos[0].path, member)
    assert member.backend.batch_sizes == [4, 4, 1]


def test_memory_is_used_again(videos: list[VideoInput]) -> None:
    """Two batches wait, one is filled, one is looked at: five arrays, however long the video."""
    (member,) = members_of("one")
    seen: set[int] = set()

    class Watching(BrightnessBackend):
        def infer(self, frames: np.ndarray) -> Scores:
            seen.add(frames.__array_interface__["data"][0])
            return super().infer(frames)

    run(videos[0].path, replace(member, backend=Watching()), Options(batch_size=1))
    assert len(seen) <= 5


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_real_backends_give_the_same_to_rounding(
    videos: list[VideoInput], tiny_bundle: Path, backend: str
) -> None:
    """Labels and bounds are equal, scores to 1e-5: another size of batch rounds otherwise."""
    pytest.importorskip(backend)
    request = BackendRequest(backend=backend, num_threads=1)  # type: ignore[arg-type]
    members = [open_member(load_bundle(tiny_bundle), request), brightness_member(0.3, 3, 16)]
    with closing_members(members):
        found = dict(run_videos(videos, members, Options(batch_size=4), jobs=3))
        for video, outcome in found.items():
            expected = alone(video, members, Options(batch_size=1))
            if isinstance(outcome, VideoError):
                assert str(outcome) == expected
                continue
            assert isinstance(expected, Result)
            assert bounds(outcome) == bounds(expected)
            for one, other in zip(outcome.segments, expected.segments, strict=True):
                assert one.score == pytest.approx(other.score, abs=1e-5)


def bounds(result: Result) -> list[tuple[str, float, float]]:
    return [(s.label, s.start_seconds, s.end_seconds) for s in result.segments]


# --- faults ---------------------------------------------------------------------------------------


class FaultError(Exception):
    pass


def fault(*_: object, **__: object) -> Iterator[object]:
    raise FaultError("planted")


class Sink:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.results: list[Result] = []

    def add(self, result: Result) -> None:
        if self.error is not None:
            raise self.error
        self.results.append(result)

    def fail(self, video_id: str, reason: str) -> None:
        """Failures are reported on standard error."""

    def close(self) -> None:
        """Nothing is held back."""


def frames_then_fault(self: VideoReader, start_seconds: float = 0.0) -> Iterator[object]:
    for number, frame in enumerate(ORIGINAL_FRAMES(self, start_seconds)):
        if number == 30:
            raise FaultError("planted")
        yield frame


ORIGINAL_FRAMES = VideoReader.frames
STAGES: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "open": lambda patch: patch.setattr(VideoReader, "__init__", fault),
    "decode": lambda patch: patch.setattr(VideoReader, "frames", frames_then_fault),
    "convert": lambda patch: patch.setattr(FrameConverter, "__call__", fault),
    "submit": lambda patch: patch.setattr(QueueBackend, "submit", fault),
    "result": lambda patch: patch.setattr(QueueBackend, "result", fault),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("stage", STAGES)
def test_a_fault_in_any_stage_ends_the_run_with_its_message(
    videos: list[VideoInput], stage: str, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    STAGES[stage](monkeypatch)
    with pytest.raises(FaultError, match="planted"):
        run_all(
            plans(videos),
            [DeviceModels(members_of("ensemble"))],
            Options(batch_size=2),
            Sink(),
            jobs=jobs,
            quiet=True,
        )
    assert no_threads()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("error", [RunError("disk full"), KeyboardInterrupt()])
def test_a_fault_of_the_sink_ends_the_run(videos: list[VideoInput], jobs: int, error: BaseException) -> None:
    with pytest.raises(type(error), match="disk full" if isinstance(error, RunError) else None):
        run_all(
            plans(videos), [DeviceModels(members_of("one"))], Options(), Sink(error), jobs=jobs, quiet=True
        )
    assert no_threads()


@pytest.mark.timeout(60)
def test_a_fault_of_the_progress_ends_the_run(videos: list[VideoInput]) -> None:
    with closing(run_videos(videos, members_of("one"), Options(), jobs=2, progress=fault)) as found:  # type: ignore[arg-type]
        with pytest.raises(FaultError, match="planted"):
            list(found)
        assert no_threads()


def test_leaving_early_ends_all_threads(videos: list[VideoInput]) -> None:
    found = run_videos(videos, members_of("one"), Options(), jobs=3)
    next(found)
    found.close()
    assert no_threads()


def test_failures_are_reported_and_the_other_results_given(
    videos: list[VideoInput], capsys: pytest.CaptureFixture[str]
) -> None:
    sink = Sink()
    lost = run_all(plans(videos), [DeviceModels(members_of("one"))], Options(), sink, jobs=3)
    assert (lost.num_videos, lost.num_captures) == (2, 2)
    *listed, last = lost.summary(7, counts=True)
    assert (listed[0], last) == ("failed:", "5 of 7 videos done, 2 failed")
    assert ["v1" in listed[1], "none" in listed[2]] == [True, True]
    assert [result.video_id for result in sink.results] == ["v0", "v2", "v3", "v4", "whole"]
    lines = capsys.readouterr().err.splitlines()
    assert ["v1" in lines[0], "none" in lines[1], "whole" in lines[2]] == [True] * 3  # in their order
    assert "breaks off" in lines[2]


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["none", "decode", "result", "interrupt"])
def test_the_command_closes_its_backends_on_every_path(
    videos: list[VideoInput], tiny_bundle: Path, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tsm_runtime.models import opening as members

    backend = QueueBackend()
    monkeypatch.setattr(members, "open_requested", lambda *_, **__: backend)
    if stage == "interrupt":
        monkeypatch.setattr(QueueBackend, "result", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    elif stage != "none":
        STAGES[stage](monkeypatch)
    monkeypatch.setattr(
        "sys.argv",
        ["tsm-run", str(videos[0].path), "--model", str(tiny_bundle), "-o", str(tmp_path / "o.json"), "-q"],
    )
    with pytest.raises((SystemExit, FaultError)) as left:
        cli.main()
    if isinstance(left.value, SystemExit):
        assert (left.value.code or 0) == (130 if stage == "interrupt" else 0)
    assert (stage == "none") == (tmp_path / "o.json").exists()
    assert backend.num_closed == 1
    assert no_threads()


def test_jobs_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """One where the model needs the cores itself; beside a GPU one for four cores, eight at most."""
    on_cpu, on_gpu = brightness_member(), brightness_member()
    on_gpu.backend.device = "gpu"
    for cores, wanted in ((1, 1), (4, 1), (9, 2), (16, 4), (128, 8)):
        monkeypatch.setattr(batch_run, "num_cores", lambda cores=cores: cores)
        assert batch_run.default_jobs(DeviceModels([on_gpu])) == wanted
        assert batch_run.default_jobs(DeviceModels([on_gpu, on_cpu])) == 1
        assert batch_run.default_jobs(DeviceModels([on_gpu], SimpleNamespace(num_engines=7))) == 7
