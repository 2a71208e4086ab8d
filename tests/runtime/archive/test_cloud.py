"""Videos and results in an object store, which a local server stands for."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest
from entry import Command, command
from media import write_levels
from moto.server import ThreadedMotoServer

from tsm_runtime.archive.cloud import Scratch, is_remote, shown
from tsm_runtime.commands.run import main

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
DARK, GREY, BRIGHT = 40, 128, 230
SECRET = "not-to-be-seen"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    return command("tsm-run", main, monkeypatch, capfdbinary)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A bucket `archive` with set/a.mp4, set/b.mp4, set/broken.mp4 and set/notes.txt."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", address),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    client = boto3.client("s3")
    client.create_bucket(Bucket="archive")
    write_levels(tmp_path / "a.mp4", [(DARK, 1.5), (GREY, 0.54)])
    write_levels(tmp_path / "b.mp4", [(BRIGHT, 1.5), (GREY, 0.54)])
    (tmp_path / "broken.mp4").write_text("no video")
    (tmp_path / "notes.txt").write_text("notes")
    for name in ("a.mp4", "b.mp4", "broken.mp4", "notes.txt"):
        client.upload_file(str(tmp_path / name), "archive", f"set/{name}")
    yield client
    for entry in client.list_objects_v2(Bucket="archive").get("Contents", []):
        client.delete_object(Bucket="archive", Key=entry["Key"])
    client.delete_bucket(Bucket="archive")


def keys(client: object) -> list[str]:
    return [entry["Key"] for entry in client.list_objects_v2(Bucket="archive")["Contents"]]  # type: ignore[attr-defined]


def test_a_bucket_is_run_and_resumed(run: Command, store: object, tiny_bundle: Path) -> None:
    done = run("s3://archive/set/", "-m", tiny_bundle, "-o", "out/")
    assert done.code == 1
    assert "2 of 3 videos done, 1 failed" in done.err
    assert "s3://archive/set/broken.mp4: not a readable video" in done.err
    run("a.mp4", "-m", tiny_bundle, "-o", "local/")
    assert Path("out/a.json").read_bytes() == Path("local/a.json").read_bytes()
    assert (
        "0 of 3 videos done, 2 done before"
        in run("s3://archive/set/", "-m", tiny_bundle, "-o", "out/", "--resume").err
    )
    store.upload_file("b.mp4", "archive", "set/a.mp4")  # type: ignore[attr-defined]
    changed = run("s3://archive/set/", "-m", tiny_bundle, "-o", "out/", "--resume")
    assert "1 video (a) changed since the last run: run again" in changed.err
    texts = "".join(p.read_text() for p in Path("out").rglob("*") if p.is_file())
    assert SECRET not in texts + done.err + changed.err


def test_results_go_to_a_bucket(run: Command, store: object, tiny_bundle: Path) -> None:
    assert run("a.mp4", "b.mp4", "-m", tiny_bundle, "-o", "s3://archive/all.csv").code == 0
    options = ("s3://archive/set/", "-m", tiny_bundle, "-o", "s3://archive/out/", "--resume")
    assert "2 of 3 videos done" in run(*options).err
    assert {"all.csv", "all.videos.csv", "out/a.json", "out/b.json", "out/failures.jsonl"} <= {*keys(store)}
    assert ".tsm-trial" not in "".join(keys(store))
    assert "0 of 3 videos done, 2 done before" in run(*options).err


def test_what_cannot_be_reached_is_one_line(
    run: Command, store: object, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in (("s3://nowhere/set/a.mp4",), ("a.mp4", "-o", "s3://nowhere/out/")):
        refused = run(*arguments, "-m", tiny_bundle)
        assert refused.code in (2, 3), refused.err
        assert "s3://nowhere" in refused.err
        assert SECRET not in refused.err
    assert run("s3://archive/set/", "-m", tiny_bundle, "--checksum", "-o", "out/").code == 2
    assert "use tsm-live" in run("rtsp://host/a", "-m", tiny_bundle).err


def test_a_web_server_gives_videos_too(
    run: Command, store: object, tiny_bundle: Path, tmp_path: Path
) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/a.mp4?token={SECRET}"
        done = run(url, "-m", tiny_bundle, "-o", "web/")
        assert (done.code, SECRET in done.err) == (0, False), done.err
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    run("a.mp4", "-m", tiny_bundle, "-o", "local/")
    assert Path("web/a.json").read_bytes() == Path("local/a.json").read_bytes()


def test_scratch_is_bounded(store: object, tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch", most_bytes=(tmp_path / "a.mp4").stat().st_size)
    _, videos = scratch.find("s3://archive/set/")
    assert [path.name for path in videos] == ["a.mp4", "b.mp4", "broken.mp4"]
    scratch.begin(videos)
    for path in videos:
        with scratch.local(path):
            assert path.read_bytes() == (tmp_path / path.name).read_bytes()
            held = sum(p.stat().st_size for p in (tmp_path / "scratch").rglob("*") if p.is_file())
            assert held <= (tmp_path / "a.mp4").stat().st_size + 10
        assert not path.exists()
    scratch.close()


def test_addresses() -> None:
    assert is_remote("s3://b/k")
    assert not is_remote("rtsp://host/x")
    assert not is_remote("a.mp4")
    assert shown("https://u:p@h/x?k=1#f") == "https://h/x"
