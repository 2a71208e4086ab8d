"""Videos and results in an object store, which a local server stands for."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from pathlib import Path

import boto3
import pytest
import s3fs
from entry import Command
from media import write_levels
from moto.server import ThreadedMotoServer
from over_http import serving_http

from tsm_runtime.archive.addresses import is_remote, shown
from tsm_runtime.archive.scratch import Scratch
from tsm_runtime.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
DARK, GREY, BRIGHT = 40, 128, 230
SECRET = "not-to-be-seen"


@pytest.fixture(autouse=True)
def no_store_from_before() -> None:
    """Stores are kept by the package, with the credentials and the endpoint of the first access."""
    s3fs.S3FileSystem.clear_instance_cache()


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


def test_a_list_names_addresses_and_files_here(run: Command, store: object, tiny_bundle: Path) -> None:
    Path("list.txt").write_text("s3://archive/set/a.mp4\ns3://archive/set/gone.mp4\nb.mp4\n")
    done = run("@list.txt", "-m", tiny_bundle, "-o", "out/", "--ids", "stem")
    assert done.code == 1
    assert "2 of 3 videos done, 1 failed" in done.err
    assert "s3://archive/set/gone.mp4: cannot be read (nothing is there" in done.err
    assert sorted(path.name for path in Path("out").glob("?.json")) == ["a.json", "b.json"]
    assert "1 failed" in run("@list.txt", "-m", tiny_bundle, "-o", "out/", "--resume").err
    refused = run("@list.txt", "-m", tiny_bundle, "-o", "out/", "--report", "page.html")
    assert (refused.code, "--report is for videos on this machine" in refused.err) == (2, True)


class _Refusing(BaseHTTPRequestHandler):
    """Answers each request with an error of a store."""

    code, status = "", 403

    def do_GET(self) -> None:
        body = f"<Error><Code>{self.code}</Code><Message>no</Message></Error>".encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_PUT = do_GET  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@pytest.mark.parametrize(
    ("code", "status", "advice"),
    [
        ("ExpiredToken", 400, "the credentials have expired: renew them"),
        ("InvalidAccessKeyId", 403, "the store does not accept these credentials: check the key"),
        ("AccessDenied", 403, "these credentials may not do this: check the access rights"),
    ],
)
def test_refused_credentials_are_one_line(
    code: str, status: int, advice: str, run: Command, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = type("Refusing", (_Refusing,), {"code": code, "status": status})
    with serving_http(handler) as address:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, SECRET)
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        refused = run("s3://archive/set/", "-m", tiny_bundle, "-o", "out/")
    assert refused.code == UsageError.exit_code
    assert refused.err.startswith(f"tsm-run: s3://archive/set/: cannot be read ({advice}")
    assert (refused.err.count("\n"), SECRET in refused.err) == (1, False)


def test_missing_credentials_and_a_store_that_is_away_are_one_line(
    run: Command, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none")),
        ("AWS_CONFIG_FILE", str(tmp_path / "none")),
        ("AWS_MAX_ATTEMPTS", "1"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),  # discard: not in use
    ):
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "a.mp4").write_text("no video")
    options = (tmp_path / "a.mp4", "-m", tiny_bundle, "-o", "s3://archive/out/")
    refused = run(*options)
    assert "cannot be written (no credentials: set the provider's own variables" in refused.err
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, SECRET)
    s3fs.S3FileSystem.clear_instance_cache()
    away = run(*options)
    assert "cannot be written (the store cannot be reached: check the network" in away.err
    for done in (refused, away):
        assert (done.code, done.err.count("\n"), SECRET in done.err) == (UsageError.exit_code, 1, False)


def test_addresses_with_one_name_are_refused(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, most_bytes=1)
    assert scratch.place("http://127.0.0.1:9/a.mp4?id=1").name == "a.mp4"
    with pytest.raises(UsageError, match=r"differ only behind '\?'"):
        scratch.place("http://127.0.0.1:9/a.mp4?id=2")


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

    with serving_http(functools.partial(Quiet, directory=str(tmp_path))) as address:
        done = run(f"{address}/a.mp4?token={SECRET}", "-m", tiny_bundle, "-o", "web/")
        assert (done.code, SECRET in done.err) == (0, False), done.err
    run("a.mp4", "-m", tiny_bundle, "-o", "local/")
    assert Path("web/a.json").read_bytes() == Path("local/a.json").read_bytes()


def test_scratch_is_bounded(store: object, tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch", most_bytes=(tmp_path / "a.mp4").stat().st_size)
    ((_, videos),) = scratch.find(["s3://archive/set/"])
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
