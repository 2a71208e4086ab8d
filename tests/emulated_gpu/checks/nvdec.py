"""FFmpeg's NVDEC code on the emulated decoder: surfaces, bits, streams, and pictures that reach the model."""

from __future__ import annotations

import ctypes
import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from emulated import Emulated
from media import write_levels
from onnxruntime_double import OnnxruntimeDouble
from tiny_bundle import SIZE, tiny_manifest, tiny_model, write_tiny_bundle

from tsm_export.graphs.preprocess import preprocess_graph
from tsm_runtime.backends.cuda.driver import PrimaryContext
from tsm_runtime.backends.onnxruntime_cuda import OnnxruntimeCudaBackend
from tsm_runtime.bundle.bundle import Bundle, load_bundle
from tsm_runtime.bundle.manifest import sha256
from tsm_runtime.commands.run import main
from tsm_runtime.errors import VideoError
from tsm_runtime.models.nvdec import Nvdec
from tsm_runtime.models.nvdec_opening import open_nvdec
from tsm_runtime.models.opening import member_of
from tsm_runtime.pipeline.options import Options
from tsm_runtime.pipeline.run import run_videos
from tsm_runtime.video.crop import Crop
from tsm_runtime.video.finding import VideoInput
from tsm_runtime.video.reader import VideoReader


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    pictures = preprocess_graph(SIZE)
    entry = {"sha256": sha256(pictures), "precision": "fp32", "kind": "preprocess"}
    files: dict[str, Any] = dict(tiny_manifest(tiny_model().SerializeToString())["files"])  # type: ignore[call-overload]
    folder = write_tiny_bundle(
        tmp_path / "bundle", files=files | {"preprocess.onnx": entry}, format_version=3
    )
    (folder / "preprocess.onnx").write_bytes(pictures)
    return load_bundle(folder)


@pytest.fixture(autouse=True)
def ort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", OnnxruntimeDouble())


def video(path: Path, *, num_frames: int = 130, ten_bits: bool = False) -> Path:
    """Noise in H.264, without B-frames, so that pictures are shown in the order of decoding."""
    rng = np.random.default_rng(0)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx265" if ten_bits else "libx264", rate=25)
        stream.width, stream.height = 128, 96
        stream.pix_fmt = "yuv420p10le" if ten_bits else "yuv420p"
        stream.options = {"bf": "0", "x265-params": "log-level=none:bframes=0"}
        for number in range(num_frames):
            picture = av.VideoFrame.from_ndarray(rng.integers(0, 256, (96, 128, 3), np.uint8), format="rgb24")
            picture.pts = number
            container.mux(stream.encode(picture.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("ten_bits", [False, True])
def test_a_hundred_frames_can_be_held(tmp_path: Path, emulated: Emulated, ten_bits: bool) -> None:
    """FFmpeg copies pictures into a pool of its own: no surface of the decoder waits for a clip."""
    path = video(tmp_path / "v.mp4", ten_bits=ten_bits)
    before = emulated.decoders()["refused"]
    with Nvdec(PrimaryContext(0), {}) as decoder:
        found = lumas_of(path, decoder, "p010le" if ten_bits else "nv12")
    assert found == list(range(16, 116))
    assert emulated.decoders()["refused"] == before
    assert emulated.decoders()["live"] == 0


def lumas_of(path: Path, decoder: Nvdec, kind: str) -> list[int]:
    """Read a hundred pictures, hold them all, and return their lumas."""
    with VideoReader(path, nvdec=decoder) as reader:
        frames = [timed.frame for timed in itertools.islice(reader.frames(), 100)]
        assert {(frame.format.name, frame.sw_format.name) for frame in frames} == {("cuda", kind)}
        decoder.context.wait_for_decoder()
        return [luma_of(frame, kind) for frame in frames]


def av1(path: Path, *, turned: bool = False) -> Path:
    """Noise in AV1, for which FFmpeg's first choice is a library."""
    rng = np.random.default_rng(0)
    with av.open(path, "w") as container:
        stream = container.add_stream(
            "libsvtav1", rate=25, options={"preset": "12", "svtav1-params": "pred-struct=1"}
        )
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        if turned:
            stream.set_display_rotation(90)
        for number in range(80):
            picture = av.VideoFrame.from_ndarray(rng.integers(0, 256, (96, 128, 3), np.uint8), format="rgb24")
            picture.pts = number
            container.mux(stream.encode(picture.reformat(format="yuv420p")))
        container.mux(stream.encode())
    return path


def test_av1_is_decoded_by_nvdec(tmp_path: Path, emulated: Emulated) -> None:
    path, before = av1(tmp_path / "v.mp4"), emulated.decoders()["created"]
    with Nvdec(PrimaryContext(0), {}) as decoder:
        times = times_on_the_gpu(path, decoder)
        with pytest.raises(
            VideoError, match=r"turned\.mp4: av1 whose container turns the picture; --hwdec auto"
        ):
            VideoReader(av1(tmp_path / "turned.mp4", turned=True), nvdec=decoder)
    with VideoReader(path) as reader:
        assert [timed.start_seconds for timed in reader.frames()] == times
    assert len(times) == 80
    assert emulated.decoders()["created"] > before
    assert emulated.decoders()["live"] == 0


def times_on_the_gpu(path: Path, decoder: Nvdec) -> list[float]:
    with VideoReader(path, nvdec=decoder) as reader:
        assert reader.decoder.name == "av1"
        frames = list(reader.frames())
        kinds = {(timed.frame.format.name, timed.frame.sw_format.name) for timed in frames}
        assert kinds == {("cuda", "nv12")}
        times = [timed.start_seconds for timed in frames]
    with VideoReader(path, nvdec=decoder) as reader:  # after a seek
        assert [timed.start_seconds for timed in reader.frames(2.8)][-5:] == times[-5:]
    return times


def cropped(path: Path, left: int, top: int) -> Path:
    """H.264 that states borders at the left and at the top."""
    plain = video(path.with_name("plain.mp4"), num_frames=20)
    with av.open(plain) as given, av.open(path, "w") as container:
        source = given.streams.video[0]
        stream = container.add_stream_from_template(source)
        borders = BitStreamFilterContext(f"h264_metadata=crop_left={left}:crop_top={top}", source, stream)
        for packet in given.demux(source):
            for changed in borders.filter(packet if packet.size else None):
                changed.stream = stream
                container.mux(changed)
    return path


def test_a_border_at_the_left_and_top_is_not_shown(tmp_path: Path) -> None:
    """FFmpeg leaves it on the GPU's frames, and cuts it off those of the CPU."""
    path = cropped(tmp_path / "v.mp4", 16, 8)
    with VideoReader(path) as reader:
        shown = next(reader.frames()).frame
    assert (shown.width, shown.height) == (112, 88)
    drawer = SimpleNamespace(refusal=lambda frame: None)
    with Nvdec(PrimaryContext(0), {32: drawer}) as decoder:  # type: ignore[dict-item]
        assert parts_of(path, decoder, "") == [[16, 8, 112, 88]] * 20
        assert parts_of(path, decoder, "right") == [[72, 8, 56, 88]] * 20


def parts_of(path: Path, decoder: Nvdec, crop: Crop) -> list[list[float]]:
    """The part of the stored picture that is shown of each frame."""
    with VideoReader(path, nvdec=decoder) as reader:
        converter = decoder.converter(reader.decoder, 32, crop)
        return [converter(timed.frame).view.part.tolist() for timed in reader.frames()]  # type: ignore[union-attr]


def luma_of(frame: av.VideoFrame, kind: str) -> int:
    """Brightness of the first pixel of a picture on the emulated GPU, whose memory is the host's."""
    element = ctypes.c_uint16 if kind == "p010le" else ctypes.c_uint8
    value = element.from_address(frame.planes[0].buffer_ptr).value
    return value >> 8 if kind == "p010le" else value


def test_the_number_of_decoders_is_read() -> None:
    with Nvdec(PrimaryContext(0), {}) as decoder:
        assert decoder.num_engines == 3


@pytest.mark.parametrize("jobs", [1, 3])
def test_several_streams_reach_the_model(
    bundle: Bundle, tmp_path: Path, emulated: Emulated, jobs: int
) -> None:
    paths = [write_levels(tmp_path / f"{n}.mp4", [(40 * n + 20, 1.0), (235, 1.5)]) for n in range(3)]
    options = Options(batch_size=2)
    with OnnxruntimeCudaBackend(bundle, "model.fp32.onnx") as backend:
        member = member_of(bundle, backend)
        with open_nvdec("cuda", [bundle], [member]) as decoder:  # type: ignore[union-attr]
            videos = [VideoInput(path, path.stem) for path in paths]
            run = run_videos(videos, [member], options, jobs=jobs, nvdec=decoder)
            results = [result for _, result in run]
    assert [result.num_intervals for result in results] == [5, 5, 5]
    assert emulated.decoders()["live"] == 0
    assert emulated.live()["memory"] == 0


def test_two_gpus_share_the_videos(
    bundle: Bundle, tmp_path: Path, emulated: Emulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write_levels(tmp_path / f"{n}.mp4", [(20 + 30 * n, 1.0), (235, 1.5)]) for n in range(5)]
    used: list[int] = []
    opened = OnnxruntimeCudaBackend.__init__

    def noted(self: OnnxruntimeCudaBackend, bundle: Bundle, name: str, *, device: int = 0) -> None:
        used.append(device)
        opened(self, bundle, name, device=device)

    monkeypatch.setattr(OnnxruntimeCudaBackend, "__init__", noted)
    found = {}
    for devices in ("1", "0,1", "all"):
        output = tmp_path / f"{devices}.json"
        words = ["--backend", "onnxruntime-cuda", "--hwdec", "cuda", "--device", devices, "-o", output, "-q"]
        monkeypatch.setattr(sys, "argv", ["tsm-run", *map(str, [*paths, "-m", bundle.path, *words])])
        with pytest.raises(SystemExit) as caught:
            main()
        assert not caught.value.code
        found[devices] = json.loads(output.read_text())["results"]
    assert used == [1, 0, 1, 0, 1]
    assert list(found["all"]) == [path.stem for path in paths]
    assert found["1"].keys() == found["0,1"].keys() == found["all"].keys()
    assert emulated.decoders()["live"] == 0
    assert emulated.live()["memory"] == 0


def test_clips_of_the_host_are_page_locked(bundle: Bundle, tmp_path: Path, emulated: Emulated) -> None:
    video = VideoInput(write_levels(tmp_path / "v.mp4", [(20, 1.0), (235, 1.5)]), "v")
    with OnnxruntimeCudaBackend(bundle, "model.fp32.onnx") as backend:
        member = member_of(bundle, backend)
        ((_, result),) = run_videos([video], [member], Options(batch_size=2))
        assert result.num_intervals == 5  # type: ignore[union-attr]
        assert emulated.live()["pinned"] > 0
    assert emulated.live()["pinned"] == 0
