"""Bundles at an address, fetched from a server of this machine."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.bundle.remote import fetch_bundle
from tsm_runtime.errors import BundleError

COMMIT = "a" * 40


class Server:
    """Serves bytes by path, and counts what was fetched."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.fetched: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                data = server.files.get(path)
                self.send_response(404 if data is None else 200)
                data = data or b"{}"
                self.send_header("Content-Length", str(len(data)))
                self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header(
                    "Content-Type", "application/json" if path.startswith("/api") else "text/plain"
                )
                self.end_headers()
                if self.command == "GET":
                    server.fetched.append(path)
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def zipped(folder: Path, prefix: str = "") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, prefix + path.name)
    return stream.getvalue()


def pinned(server: Server, data: bytes) -> Path:
    sha256 = hashlib.sha256(data).hexdigest()
    server.files[f"/{sha256[:8]}.zip"] = data
    return Path(f"{server.address}/{sha256[:8]}.zip#sha256={sha256}")


@pytest.mark.parametrize("prefix", ["", "bundle/"])
def test_a_zip_with_its_hash(server: Server, tiny_bundle: Path, tmp_path: Path, prefix: str) -> None:
    given = pinned(server, zipped(tiny_bundle, prefix))
    for _ in range(2):
        folder = fetch_bundle(given, tmp_path)
    assert len(server.fetched) == 1
    assert load_bundle(folder).manifest_sha256 == load_bundle(tiny_bundle).manifest_sha256


def test_load_bundle_takes_an_address(
    server: Server, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bundle = load_bundle(pinned(server, zipped(tiny_bundle)))
    assert bundle.path.is_relative_to(tmp_path)
    assert bundle.model_bytes("model.fp32.onnx")


def test_what_is_refused(server: Server, tiny_bundle: Path, tmp_path: Path) -> None:
    data = zipped(tiny_bundle)
    server.files["/b.zip"] = data + b"altered"
    wrong = Path(f"{server.address}/b.zip#sha256={hashlib.sha256(data).hexdigest()}")
    for given, said in (
        (wrong, "is pinned; nothing was loaded"),
        (Path(f"{server.address}/b.zip"), "its hash is not pinned"),
        (Path(f"{server.address}/none.zip#sha256={'0' * 64}"), "cannot be fetched"),
        (pinned(server, b"no zip"), "not a readable zip file"),
        (Path("hf:no-organisation"), "expected hf:ORGANISATION/NAME"),
    ):
        with pytest.raises(BundleError, match=said):
            fetch_bundle(given, tmp_path / "cache")


def test_names_in_a_zip_stay_in_the_folder(server: Server, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = fetch_bundle(pinned(server, zipped(tiny_bundle, "../../out/")), tmp_path / "cache")
    assert sorted(path.name for path in folder.iterdir()) == sorted(p.name for p in tiny_bundle.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_repository_of_the_hub(
    server: Server, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")
    names = sorted(path.name for path in tiny_bundle.iterdir())
    siblings = [{"rfilename": name} for name in names]
    information = {"id": "lab/kitchen", "sha": COMMIT, "siblings": siblings}
    tree = [
        {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": "0" * 40}
        for p in tiny_bundle.iterdir()
    ]
    for revision in (COMMIT, "v1"):
        server.files[f"/api/models/lab/kitchen/revision/{revision}"] = json.dumps(information).encode()
        server.files[f"/api/models/lab/kitchen/tree/{revision}"] = json.dumps(tree).encode()
        for name in names:
            server.files[f"/lab/kitchen/resolve/{revision}/{name}"] = (tiny_bundle / name).read_bytes()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bundle = load_bundle(Path("hf:lab/kitchen@v1"))
    assert bundle.manifest == load_bundle(tiny_bundle).manifest
    assert bundle.model_bytes("model.fp32.onnx")
    shutil.rmtree(tmp_path / "tsm-tal")
    with pytest.raises(BundleError, match=r"hf:lab/none: cannot be fetched"):
        load_bundle(Path("hf:lab/none@v1"))
