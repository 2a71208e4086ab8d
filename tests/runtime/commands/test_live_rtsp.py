"""Live runs on a real RTSP server on loopback: GStreamer's, which may die, come back, or hang.

Skipped without it; TSM_REQUIRE_RTSP=1 turns that into a failure. Debian's packages are python3-gi,
gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-base and gstreamer1.0-plugins-good.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest
from fakes import brightness_member
from hearing import bursts, hearing_member, sound_member
from media import write_levels
from sounds import write_sound
from streams import segments_in

from tsm_runtime.errors import VideoError
from tsm_runtime.live.events import Discontinuity, End, Event, LiveSegment, OpenSegment, Resumption, Start
from tsm_runtime.live.options import LiveOptions
from tsm_runtime.live.session import watch
from tsm_runtime.models.member import Member
from tsm_runtime.pipeline.run import run
from tsm_runtime.video.sources import find_source

SERVER = Path(__file__).parents[1] / "doubles" / "rtsp_server.py"
DARK, GREY, BRIGHT = 20, 128, 235
PROBE = (
    "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0');"
    "from gi.repository import Gst, GstRtspServer; Gst.init(None);"
    "assert all(map(Gst.ElementFactory.find, ('filesrc', 'qtdemux', 'rtph264pay', 'udpsink')))"
)


@cache
def server_python() -> str | None:
    """A Python that has GStreamer's bindings and what the server needs."""
    for python in (sys.executable, "/usr/bin/python3"):
        if (
            Path(python).exists()
            and not subprocess.run([python, "-c", PROBE], stderr=-3, check=False).returncode
        ):
            return python
    return None


class Server:
    """GStreamer's RTSP server in a process of its own."""

    def __init__(self, video: Path, *, sound: bool = False) -> None:
        self.video, self.port, self.sound = video, "0", sound
        self.process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/cam"

    def start(self) -> None:
        more = ["sound"] if self.sound else []
        command = [str(server_python()), str(SERVER), str(self.video), self.port, *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.port = self.process.stdout.readline().strip()
        assert self.port, "the server did not start"

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.process = None


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # What ends with a second of grey is the same whether or not the last frame gets through.
    scene = [(DARK, 1.0), (GREY, 0.5), (BRIGHT, 1.0), (GREY, 0.5), (DARK, 1.0), (GREY, 1.0)]
    return write_levels(tmp_path_factory.mktemp("media") / "scene.mp4", scene)


def require_server() -> None:
    if server_python() is None:
        if os.environ.get("TSM_REQUIRE_RTSP"):
            pytest.fail("TSM_REQUIRE_RTSP is set, but there is no GStreamer RTSP server")
        pytest.skip("no GStreamer RTSP server")


@pytest.fixture
def server(video: Path) -> Iterator[Server]:
    require_server()
    server = Server(video)
    yield server
    server.kill()


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events if not isinstance(event, OpenSegment)]


def test_a_stream_is_its_file(server: Server, video: Path) -> None:
    source = find_source(server.url, timeout_seconds=10)
    events = list(watch(source, brightness_member(), LiveOptions(reconnect_seconds=0)))
    expected = [(s.label, s.start_seconds, s.end_seconds) for s in run(video, brightness_member()).segments]
    assert segments_in(events) == expected
    start, *_, end = events
    assert isinstance(start, Start)
    assert isinstance(end, End)
    assert (start.source, start.drop) == (server.url, "oldest")
    assert (end.reason, end.complete, end.corrupt) == ("the stream ended", False, 0)
    assert end.frames in (124, 125)
    first = next(event for event in events if isinstance(event, LiveSegment))
    assert first.end_wall is not None
    assert first.start_wall is not None
    assert (first.end_wall - first.start_wall).total_seconds() == pytest.approx(1.0, abs=0.01)
    # Half a second of grey had to be over before it could be reported.
    assert (first.wall - first.end_wall).total_seconds() > 0.4


@pytest.mark.parametrize("member", [hearing_member(), sound_member()])
def test_the_sound_of_a_stream_is_that_of_its_file(member: Member, tmp_path: Path) -> None:
    require_server()
    file = write_sound(tmp_path / "a.mp4", bursts(5.0), picture_codec="libx264")
    server = Server(file, sound=True)
    try:
        source = find_source(server.url, timeout_seconds=10)
        found = segments_in(list(watch(source, member, LiveOptions(reconnect_seconds=0))))
    finally:
        server.kill()
    expected = [(s.label, s.start_seconds, s.end_seconds) for s in run(file, member).segments]
    assert len(expected) > 2
    assert found[:-1] == expected[:-1]  # the last samples may get lost at the end


def test_a_server_that_dies_and_comes_back(server: Server) -> None:
    source, events = find_source(server.url, timeout_seconds=10), []
    with closing(watch(source, brightness_member(), LiveOptions(show_open=True))) as watched:
        for event in watched:
            events.append(event)
            if isinstance(event, OpenSegment) and event.label == "bright":
                server.kill()
                break
        for event in watched:
            events.append(event)
            if isinstance(event, Discontinuity):
                server.start()
            if isinstance(event, LiveSegment) and Resumption.__name__ in kinds(events):
                break
    first, open_, lost, back, second = (e for e in events if not isinstance(e, OpenSegment | Start))
    assert segments_in([first]) == [("dark", 0.0, 1.0)]
    assert isinstance(open_, LiveSegment)
    assert (open_.label, open_.start) == ("bright", 1.5)
    assert isinstance(lost, Discontinuity)
    assert isinstance(back, Resumption)
    assert back.attempts >= 1
    assert back.time > lost.time >= open_.end
    # It begins with the dark second again, of which one whole interval lies on the stream's grid at least.
    assert isinstance(second, LiveSegment)
    assert (second.label, second.start % 0.5, second.start >= back.time) == ("dark", 0.0, True)
    assert second.start - back.time < 0.5


def test_a_server_that_hangs(server: Server) -> None:
    """It keeps the connection and sends nothing; new ones are accepted by the system, and hang too."""
    source, events = find_source(server.url, timeout_seconds=1), []
    with closing(watch(source, brightness_member(), LiveOptions(show_open=True))) as watched:
        for event in watched:
            events.append(event)
            if isinstance(event, OpenSegment) and len(events) == 2:
                server.signal(signal.SIGSTOP)
            if isinstance(event, Discontinuity):
                assert event.reason == "nothing came for 1 s"
                server.signal(signal.SIGCONT)
            if isinstance(event, Resumption):
                break
    assert kinds(events)[-3:] == ["LiveSegment", "Discontinuity", "Resumption"]
    assert segments_in(events)[0][:2] == ("dark", 0.0)


def test_a_server_that_never_was(server: Server) -> None:
    """One that hangs from the start, and one that is gone."""
    source = find_source(server.url, timeout_seconds=0.5)
    server.signal(signal.SIGSTOP)
    with pytest.raises(VideoError) as caught:
        source.open()
    assert str(caught.value) == f"{server.url}: cannot be opened (nothing came for 0.5 s)"
    server.kill()
    with pytest.raises(VideoError) as caught:
        source.open()
    assert str(caught.value) == f"{server.url}: cannot be opened (Connection refused)"


def test_a_stream_that_is_lost_for_good(server: Server, tiny_bundle: Path) -> None:
    command = [
        *(sys.executable, "-c", "from tsm_runtime.commands.run import main; main()"),
        *(server.url, "--live", "--reconnect", "0.3", "--model", str(tiny_bundle)),
    ]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert '"start"' in process.stdout.readline()
        assert '"segment"' in process.stdout.readline()
        server.kill()
        out, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == 1
    assert '"event":"discontinuity"' in out
    assert out.splitlines()[-1].startswith('{"event":"end"')
    assert err.splitlines()[-1].startswith(f"{server.url}: ")
    assert err.splitlines()[-1].endswith("; not back within 0.3 s")
