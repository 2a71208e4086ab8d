"""`--hwdec`: frames that stay on the GPU, with doubles of CUDA's libraries, and for real on a GPU."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import msgspec
import numpy as np
import onnxruntime
import pytest
from av.codec.hwaccel import HWAccel
from cuda_double import FakeDevice
from entry import Command, command
from media import counted, write_levels, write_video
from nvdec_double import CudaDouble
from onnxruntime_double import installed
from picture_double import NEWEST, Machine
from tiny_bundle import SIZE, tiny_manifest, tiny_model, write_tiny_bundle

from tsm_runtime.backends.cuda.driver import PrimaryContext
from tsm_runtime.backends.cuda.planes import Planes
from tsm_runtime.backends.onnxruntime_cuda import OnnxruntimeCudaBackend
from tsm_runtime.backends.onnxruntime_drawer import OnnxruntimeDrawer
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.manifest import ModelFile, encode_manifest, sha256
from tsm_runtime.errors import BackendError, OutOfMemoryError, RunError, VideoError
from tsm_runtime.models import nvdec
from tsm_runtime.models.member import Member
from tsm_runtime.models.nvdec import Nvdec
from tsm_runtime.models.nvdec_opening import Hwdec, open_nvdec
from tsm_runtime.models.opening import member_of
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run_videos
from tsm_runtime.video.finding import VideoInput
from tsm_runtime.video.preprocess import VIEW_SHAPES, sample_bytes, view_of
from tsm_runtime.video.reader import VideoReader

PREPROCESS = "preprocess.onnx"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    pytest.importorskip("onnx")
    from tsm_export.graphs.preprocess import preprocess_graph

    pictures = preprocess_graph(SIZE)
    entry = {"sha256": sha256(pictures), "precision": "fp32", "kind": "preprocess"}
    files: dict[str, object] = dict(tiny_manifest(tiny_model().SerializeToString())["files"])  # type: ignore[call-overload]
    folder = write_tiny_bundle(tmp_path / "bundle", files=files | {PREPROCESS: entry}, format_version=3)
    (folder / PREPROCESS).write_bytes(pictures)
    return load_bundle(folder)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> CudaDouble:
    """A GPU whose NVDEC gives out NV12 or P010: pictures of the CPU's decoder, which a test can look at."""
    double = CudaDouble()
    installed(monkeypatch)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: double)
    monkeypatch.setattr(Nvdec, "accelerator", lambda self: double.stack.append(double.stack.pop()))
    monkeypatch.setattr(Nvdec, "prepare", lambda self, stream, path, trouble: stream.codec_context)
    monkeypatch.setattr(nvdec, "_why_not", lambda frame: None if sample_bytes(frame) else "no NV12")
    decoded = VideoReader._decoded

    def as_nv12(self: VideoReader) -> Iterator[av.VideoFrame]:
        for frame in decoded(self):
            kind = {"yuv420p": "nv12", "yuv420p10le": "p010le"}.get(frame.format.name)
            if self._nvdec is None or kind is None:
                yield frame
                continue
            turned = frame.reformat(format=kind)
            turned.pts = frame.pts
            yield turned

    monkeypatch.setattr(VideoReader, "_decoded", as_nv12)
    return double


@pytest.fixture
def tsm_run(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    from tsm_runtime.commands.run import main

    return command("tsm-run", main, monkeypatch, capfdbinary)


def opened(hwdec: Hwdec, bundle: Bundle, member: Member) -> Nvdec:
    decoder = open_nvdec(hwdec, [bundle], [member])
    assert decoder is not None
    return decoder


def results(
    videos: list[VideoInput], member: Member, options: Options | None = None, nvdec: Nvdec | None = None
) -> list[Any]:
    return [result for _, result in run_videos(videos, [member], options or Options(), nvdec=nvdec)]


def levels(path: Path, **more: Any) -> Path:
    return write_levels(path, [(20, 1.0), (235, 1.0), (120, 1.5)], **more)


@contextmanager
def backend_of(engine: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Bundle, Any]]:
    """A backend on the GPU, and the bundle with what it needs."""
    if engine == "onnxruntime-cuda":
        with OnnxruntimeCudaBackend(bundle, "model.fp32.onnx") as backend:
            yield bundle, backend
        return
    device = FakeDevice(is_host=True)  # whose memory the driver's double shares
    machine = Machine(bundle, NEWEST, device)
    session = onnxruntime.InferenceSession(bundle.model_bytes(PREPROCESS))
    machine.double.draws = lambda values, size: session.run(None, dict(values))[0]
    monkeypatch.setitem(sys.modules, "tensorrt", machine.double.module)
    with machine.open() as backend:
        yield machine.bundle, backend
    assert machine.double.num_pictures
    assert device.violations == []


def assert_same(found: Any, expected: Any) -> None:
    bounds = [(s.label, s.start_seconds, s.end_seconds) for s in found.segments]
    assert bounds == [(s.label, s.start_seconds, s.end_seconds) for s in expected.segments]
    assert found.scores.action == pytest.approx(expected.scores.action, abs=0.05)
    assert found.num_intervals == expected.num_intervals > 5


ENGINES = pytest.mark.parametrize("engine", ["onnxruntime-cuda", "tensorrt"])


@ENGINES
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_a_run_gives_what_it_gives_on_the_cpu(
    bundle: Bundle,
    cuda: CudaDouble,
    tmp_path: Path,
    batch_size: int,
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    video, options = VideoInput(levels(tmp_path / "v.mp4"), "v"), Options(batch_size=batch_size)
    with backend_of(engine, bundle, monkeypatch) as (bundle, backend):
        member = member_of(bundle, backend)
        (expected,) = results([video], member, options)
        with opened("cuda", bundle, member) as decoder:
            found = results([video, video], member, options, decoder)
            assert cuda.memory  # clips lay on the GPU
            assert cuda.num_waits == 2 * 7  # one for each clip
            if engine == "onnxruntime-cuda":
                assert sys.modules["onnxruntime"].num_drawings == 2 * 7
        assert not cuda.memory
        # The clips of the run on the CPU's decoder were in page-locked memory, until the backend is closed.
        assert (cuda.retained, bool(cuda.pinned)) == (
            (1, True) if engine == "onnxruntime-cuda" else (0, False)
        )
    assert (cuda.retained, cuda.pinned) == (0, {})
    for result in found:
        assert_same(result, expected)


def test_a_bundle_of_before_batches_draws_its_pictures_one_by_one(
    bundle: Bundle, cuda: CudaDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    model = onnx.load_from_string(bundle.model_bytes(PREPROCESS))
    for value in (*model.graph.input[:2], *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    old, video = model.SerializeToString(), VideoInput(levels(tmp_path / "v.mp4"), "v")
    found = {}
    for name, data in (("new", None), ("old", old)):
        if data is not None:
            (bundle.path / PREPROCESS).write_bytes(data)
            entry = ModelFile(sha256=sha256(data), precision="fp32", kind="preprocess")
            files = {**bundle.manifest.files, PREPROCESS: entry}
            manifest = msgspec.structs.replace(bundle.manifest, files=files)
            (bundle.path / "manifest.json").write_bytes(encode_manifest(manifest))
        again, before = load_bundle(bundle.path), sys.modules["onnxruntime"].num_drawings
        with OnnxruntimeCudaBackend(again, "model.fp32.onnx") as backend:
            member = member_of(again, backend)
            with opened("cuda", again, member) as decoder:
                (found[name],) = results([video], member, nvdec=decoder)
        drawn = sys.modules["onnxruntime"].num_drawings - before
        assert drawn == (7 if name == "new" else 7 * 4)
    assert np.array_equal(found["old"].scores.action, found["new"].scores.action)


@ENGINES
def test_ten_bits_stay_on_the_gpu(
    bundle: Bundle, cuda: CudaDouble, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = levels(tmp_path / "v.mkv", codec="ffv1", pixel_format="yuv420p10le")
    with backend_of(engine, bundle, monkeypatch) as (bundle, backend):
        member = member_of(bundle, backend)
        (expected,) = results([VideoInput(path, "v")], member)
        with opened("cuda", bundle, member) as decoder:  # which converts nothing on the CPU
            (found,) = results([VideoInput(path, "v")], member, nvdec=decoder)
    assert_same(found, expected)


@ENGINES
@pytest.mark.parametrize("batch_size", [2, 16])
def test_several_videos_at_a_time_share_batches_on_the_gpu(
    bundle: Bundle,
    cuda: CudaDouble,
    tmp_path: Path,
    batch_size: int,
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = [write_levels(tmp_path / f"{n}.mp4", [(40 * n, 1.0), (235, 2.5)]) for n in range(5)]
    videos, options = [VideoInput(path, path.stem) for path in paths], Options(batch_size=batch_size)
    with backend_of(engine, bundle, monkeypatch) as (bundle, backend):
        member = member_of(bundle, backend)
        expected = results(videos, member, options)
        with opened("cuda", bundle, member) as decoder:
            run = run_videos(videos, [member], options, nvdec=decoder, jobs=3)
            found = [result for _, result in run]
        assert not cuda.memory
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


@ENGINES
def test_memory_stays_until_no_batch_is_in_flight(
    bundle: Bundle, cuda: CudaDouble, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends early: no clip goes while a batch that holds it has no result."""
    video = VideoInput(levels(tmp_path / "v.mp4"), "v")
    with backend_of(engine, bundle, monkeypatch) as (bundle, backend):
        in_flight: list[Any] = []
        submit, result = backend.submit, backend.result

        def submitted(frames: Any) -> Any:
            if len(in_flight) == 1:
                raise RunError("broke off")
            in_flight.append(submit(frames))
            return in_flight[-1]

        def taken(batch: Any) -> Any:
            in_flight.remove(batch)
            return result(batch)

        monkeypatch.setattr(backend, "submit", submitted)
        monkeypatch.setattr(backend, "result", taken)
        free = cuda.cuMemFree_v2
        monkeypatch.setattr(cuda, "cuMemFree_v2", lambda address: in_flight or free(address))
        member = member_of(bundle, backend)
        with opened("cuda", bundle, member) as decoder, pytest.raises(RunError, match="broke off"):
            results([video], member, Options(batch_size=1), decoder)
        assert not in_flight
        assert not cuda.memory


def test_a_picture_that_the_graph_does_not_take(
    bundle: Bundle, cuda: CudaDouble, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`cuda` refuses, `auto` converts on the CPU, copies to the GPU and says so once."""
    video = VideoInput(levels(tmp_path / "v.mkv", pixel_format="yuv444p"), "v")
    with OnnxruntimeCudaBackend(bundle, "model.fp32.onnx") as backend:
        member = member_of(bundle, backend)
        (expected,) = results([video], member)
        with opened("cuda", bundle, member) as decoder:
            (refused,) = results([video], member, nvdec=decoder)
        with opened("auto", bundle, member) as decoder:
            (found,) = results([video], member, nvdec=decoder)
    assert str(refused) == f"{video.path}: no NV12; --hwdec auto converts such pictures on the CPU"
    assert found.segments == expected.segments
    assert caplog.text.count("--hwdec auto: pictures are converted on the CPU: no NV12") == 1
    assert not cuda.memory


def test_clips_on_the_gpu_are_like_an_array(cuda: CudaDouble) -> None:
    context = PrimaryContext()
    decoder = Nvdec(context, {})
    random = np.random.default_rng(0)
    wanted = random.integers(0, 256, (3, 2, 4, 4, 3), dtype=np.uint8)
    clips = decoder._new_clips(wanted.shape)
    for number, clip in enumerate(wanted):
        for place, picture in enumerate(clip):
            clips[number][place] = picture
    assert bytes(cuda.memory[clips.address]) == wanted.tobytes()
    part = clips[1:]
    assert (part.shape, part.address, len(part)) == ((2, 2, 4, 4, 3), clips.address + 96, 2)
    with pytest.raises(IndexError):
        clips[3]
    with pytest.raises(ValueError, match=r"expected uint8 \(4, 4, 3\)"):
        clips[0][0] = wanted[0]
    with pytest.raises(ValueError, match="without gaps"):
        clips[::2]
    others = decoder._new_clips((2, *wanted.shape[1:]))
    others.take([clips[2:], clips[:1]])
    assert bytes(cuda.memory[others.address]) == wanted[[2, 0]].tobytes()
    with pytest.raises(ValueError, match=r"expected parts that make up \(2, 2, 4, 4, 3\)"):
        others.take([clips[2:]])
    decoder.close()
    decoder.close()
    assert not cuda.memory


def test_no_memory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    context = PrimaryContext(library=CudaDouble(limit=10))
    with pytest.raises(OutOfMemoryError, match="GPU 0: out of memory"):
        context.allocate(11)


def test_an_unknown_gpu_is_reported() -> None:
    with pytest.raises(BackendError, match="GPU 3: there is none of this number"):
        PrimaryContext(3, library=CudaDouble())


@pytest.mark.parametrize("names", [("y", "uv", "part", "colour", "turn"), ("y", "uv", *VIEW_SHAPES)])
def test_a_bundle_of_before_ten_bits_draws_eight(names: tuple[str, ...]) -> None:
    """Its graph takes pairs of chroma, and its sample size is unknown; ten bits are refused."""
    bound: dict[str, Any] = {}
    binding = SimpleNamespace(
        bind_input=lambda name, device, number, kind, shape, address: bound.update({name: shape}),
        bind_cpu_input=lambda name, value: bound.update({name: value.shape}),
        bind_output=lambda *given: None,
    )
    session = SimpleNamespace(
        io_binding=lambda: binding,
        get_inputs=lambda: [SimpleNamespace(name=name) for name in names],
        get_outputs=lambda: [SimpleNamespace(shape=(1, 8, 8, 3))],
        run_with_iobinding=lambda given: None,
    )
    drawer, is_old = OnnxruntimeDrawer(session, 0, "double"), "sample_bytes" not in names
    frame = av.VideoFrame(64, 48, "nv12")
    assert drawer.refusal(frame) is None
    assert not drawer.takes_several
    drawer.draw([Planes.of(frame)], view_of(frame, 8), 256)
    pitch = frame.planes[0].line_size
    assert set(bound) == set(names)
    assert bound["y"] == (1, 48, pitch)
    assert bound["uv"] == ((1, 24, pitch // 2, 2) if is_old else (1, 24, pitch))
    refused = drawer.refusal(av.VideoFrame(64, 48, "p010le"))
    assert refused == (
        "the bundle's preprocess.onnx is of a time when it took 8 bits only; export it again"
        if is_old
        else None
    )


def test_interlaced_pictures_are_not_for_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """swscale resizes each field for itself; one filter over both would give other pictures."""
    options = {"preset": "ultrafast", "x264-params": "tff=1"}
    path = write_video(tmp_path / "v.mp4", counted(2), options=options)
    monkeypatch.setattr(nvdec, "is_on_gpu", lambda frame: True)
    with VideoReader(path) as reader:
        frame = next(reader.frames()).frame
    assert (nvdec._why_not(frame) or "").startswith("interlaced pictures, whose fields")
    monkeypatch.undo()
    assert (nvdec._why_not(frame) or "").startswith("NVDEC does not take this stream")


# --- what the installed PyAV takes ----------------------------------------------------------------


def test_pyav_accepts_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real HWAccel; and the names used for frames, planes and contexts of the GPU exist."""
    accelerator = Nvdec(PrimaryContext(library=CudaDouble()), {}).accelerator()
    assert isinstance(accelerator, HWAccel)
    assert (accelerator.is_hw_owned, accelerator.device_id) == (True, 0)
    assert accelerator.options == {"primary_ctx": "0", "current_ctx": "1"}
    assert "cuda" in av.codec.hwaccel.hwdevices_available()
    frame = av.VideoFrame(64, 48, "nv12")
    assert frame.sw_format is None
    assert nvdec._why_not(frame) == "NVDEC does not take this stream, FFmpeg decodes it on the CPU"
    y, uv = frame.planes
    assert (y.height, uv.height, uv.line_size) == (48, 24, y.line_size)
    assert y.buffer_ptr > 0
    assert hasattr(av.CodecContext.create("h264", "r"), "is_hwaccel")


@pytest.mark.parametrize("hwdec", ["cuda", "auto"])
@pytest.mark.parametrize(
    ("codec", "why"),
    [("ffv1", "FFmpeg has no NVDEC for ffv1"), ("libx264", r"FFmpeg cannot use the GPU \(.+\)")],
)
def test_what_nvdec_does_not_take(
    tmp_path: Path, hwdec: str, codec: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The real PyAV: FFV1 is not in FFmpeg's list, and there is no current context that it could use."""
    path = write_video(tmp_path / "v.mkv", counted(5), codec=codec)
    decoder = Nvdec(PrimaryContext(library=CudaDouble()), {}, may_fall_back=hwdec == "auto")
    if hwdec == "cuda":
        with pytest.raises(VideoError, match=rf"v\.mkv: {why}; --hwdec auto decodes"):
            VideoReader(path, decoder)
        return
    with VideoReader(path, decoder) as reader:
        assert len([*reader.frames()]) == 5
    assert re.search(rf"--hwdec auto: decodes on the CPU: .*v\.mkv: {why}", caplog.text)


# --- the command ----------------------------------------------------------------------------------


def test_without_a_gpu_cuda_is_an_error_and_auto_says_so(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tsm_run: Command,
) -> None:
    load = ctypes.CDLL

    def without_driver(name: str | None) -> ctypes.CDLL:
        if name is None:  # this process's own functions
            return load(name)
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", without_driver)
    video = levels(tmp_path / "v.mp4")
    words = ("--model", bundle.path, "--backend", "onnxruntime", "-q", "--format", "json", video)
    code, out, err = tsm_run("--hwdec", "cuda", *words)
    assert (code, out) == (5, "")
    assert "--hwdec cuda: no GPU: the NVIDIA driver is not installed" in err
    code, out, err = tsm_run("--hwdec", "auto", *words)
    assert code == 0
    assert "--hwdec auto: decodes on the CPU: no GPU: the NVIDIA driver is not installed" in err
    assert out == tsm_run(*words)[1]


def test_what_is_missing_is_named(bundle: Bundle, cuda: CudaDouble, tmp_path: Path) -> None:
    from tsm_runtime.models.choice import open_model

    with pytest.raises(
        BackendError, match=r"--hwdec cuda: onnxruntime .* CPU, fp32 takes clips from the host"
    ):
        open_nvdec("cuda", [bundle], [member_of(bundle, open_model(bundle, "model.fp32.onnx"))])
    old = load_bundle(write_tiny_bundle(tmp_path / "old"))
    backend = OnnxruntimeCudaBackend(old, "model.fp32.onnx")
    with backend, pytest.raises(BackendError, match=r"old: has no preprocess\.onnx; export it again"):
        open_nvdec("cuda", [old], [member_of(old, backend)])
    assert cuda.retained == 0


# --- for real -------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_nvdec_gives_the_segments_of_the_cpu(bundle: Bundle, tmp_path: Path) -> None:
    """H.264 through NVDEC, preprocess.onnx and the model, beside the same through swscale."""
    try:
        backend = OnnxruntimeCudaBackend(bundle, "model.fp32.onnx")
    except BackendError as error:
        if os.environ.get("TSM_REQUIRE_GPU") == "1":
            raise
        pytest.skip(f"no GPU for this test: {error}")
    video = VideoInput(write_levels(tmp_path / "v.mp4", [(20, 1.0), (235, 2.0)]), "v")
    with backend:
        member = member_of(bundle, backend)
        (expected,) = results([video], member)
        with opened("cuda", bundle, member) as decoder:
            (found,) = results([video], member, nvdec=decoder)
    assert [(s.label, s.start_seconds, s.end_seconds) for s in found.segments] == [
        (s.label, s.start_seconds, s.end_seconds) for s in expected.segments
    ]
    assert found.scores.action == pytest.approx(expected.scores.action, abs=0.05)
