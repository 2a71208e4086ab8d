"""The HTTP service with a real client: uploads, formats, limits, cancelling, stopping, streams."""

from __future__ import annotations

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from media import counted, cut, write_levels, write_video
from reviewing import Process

from tsm_serve.service.representations import choose_type


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Service(Process):
    def __init__(self, *arguments: object, token: str = "") -> None:
        super().__init__("tsm_serve.commands.serve", [*map(str, arguments)], {"TSM_SERVE_TOKEN": token})
        assert self.address.startswith("http://"), "it did not start"

    def call(self, path: str, data: bytes | None = None, **more: Any) -> Reply:
        method, headers = more.get("method"), dict(more.get("headers", {}))
        if isinstance(more.get("body"), dict):
            data, headers["Content-Type"] = json.dumps(more["body"]).encode(), "application/json"
        elif data is not None:
            headers.setdefault("Content-Type", "application/octet-stream")
        request = urllib.request.Request(f"{self.address}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return Reply(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, dict(error.headers), error.read())

    def post(self, video: Path, query: str = "") -> Reply:
        return self.call(f"/v1/jobs?name={video.name}{query}", video.read_bytes())

    def ended(self, job_id: str) -> Any:
        for _ in range(10):
            job = self.call(f"/v1/jobs/{job_id}?wait=20").json
            if job["state"] not in ("queued", "running"):
                return job
        raise AssertionError(job)


StartService = Callable[..., Service]


@pytest.fixture
def start_service(tiny_bundle: Path, tmp_path: Path) -> Iterator[StartService]:
    services: list[Service] = []

    def start(*arguments: object, token: str = "") -> Service:
        spool = () if "--spool" in arguments else ("--spool", tmp_path / "spool")
        services.append(
            Service(tiny_bundle, "--port", 0, "--threads", 1, "--grace", 20, *spool, *arguments, token=token)
        )
        return services[-1]

    yield start
    for service in services:
        service.close()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_levels(tmp_path / "a clip.mp4", [(25, 2.0), (128, 1.0), (230, 2.0)])


@pytest.fixture
def long_video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "long.mp4", counted(20_000))


def test_a_video_becomes_segments_in_every_format(start_service: StartService, video: Path) -> None:
    service = start_service()
    posted = service.post(video.rename(video.with_name("clip.mp4")))
    assert posted.status == 202
    job = service.ended(posted.json["id"])
    assert (job["state"], job["video"], job["claimed_seconds"]) == ("done", "clip", 5.0)
    result = job["links"]["result"]
    found = service.call(result).json["results"]["clip"]
    assert [(s["label"], *s["segment"]) for s in found] == [("dark", 0.0, 2.0), ("bright", 3.0, 5.0)]
    begins = {
        "text/csv": b"video,label,start",
        "text/vtt": b"WEBVTT",
        "application/x-subrip": b"1\n",
        "application/eaf+xml": b"<?xml",
        "application/x-ndjson": b"{",
        "text/plain": b"0.0",
    }
    for media_type, begin in begins.items():
        reply = service.call(result, headers={"Accept": media_type})
        assert reply.headers["content-type"].startswith(media_type)
        assert reply.data.startswith(begin), media_type
    assert service.call(result, headers={"Accept": "image/png"}).status == 406
    numbers = service.call("/metrics").data.decode()
    assert 'tsm_jobs_ended_total{state="done"} 1.0' in numbers
    assert "tsm_video_seconds_total 5.0" in numbers


def test_a_form_with_fields(start_service: StartService, video: Path) -> None:
    service = start_service()
    parts = [b'--x\r\nContent-Disposition: form-data; name="id"\r\n\r\nmine\r\n']
    parts += [b'--x\r\nContent-Disposition: form-data; name="start"\r\n\r\n3\r\n']
    parts += [b'--x\r\nContent-Disposition: form-data; name="file"; filename="../../v.mp4"\r\n\r\n']
    body = b"".join(parts) + video.read_bytes() + b"\r\n--x--\r\n"
    reply = service.call("/v1/jobs", body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert reply.status == 202, reply.data
    job = service.ended(reply.json["id"])
    found = service.call(job["links"]["result"]).json["results"]["mine"]
    assert [s["label"] for s in found] == ["bright"]


def test_progress_by_events(start_service: StartService, video: Path) -> None:
    service = start_service()
    job_id = service.post(video.rename(video.with_name("clip.mp4"))).json["id"]
    lines = service.call(f"/v1/jobs/{job_id}/events").data.decode().split("\n\n")
    jobs = [json.loads(line.partition("data: ")[2]) for line in lines if line.startswith("event: job")]
    assert jobs[-1]["state"] == "done"
    assert [job["reached_seconds"] for job in jobs] == sorted(job["reached_seconds"] for job in jobs)


def test_what_is_refused(start_service: StartService, tmp_path: Path, video: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    inside = video.rename(root / "clip.mp4")
    (tmp_path / "outside.mp4").write_bytes(b"x")
    (root / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    service = start_service("--root", root, "--max-upload", 1000)
    assert service.call("/v1/jobs", body={"path": str(inside)}).status == 202
    for path in (tmp_path / "outside.mp4", root / "link.mp4", root / ".." / "outside.mp4", root / "none.mp4"):
        assert service.call("/v1/jobs", body={"path": str(path)}).status == 403
    assert service.call("/v1/jobs", b"0" * 1001).status == 413
    assert service.call("/v1/jobs", b"").status == 400
    assert service.call("/v1/jobs", body={"path": str(inside), "model": "other"}).status == 400
    assert service.call("/v1/jobs", body={"path": str(inside), "start": -1}).status == 400
    assert service.call("/v1/jobs", body={"unknown": 1}).status == 400
    assert service.call("/v1/jobs/none").status == 404
    assert service.call("/v1/streams", body={"source": str(inside)}).status == 403
    assert service.call("/v1/models", headers={"Origin": "http://evil.example"}).status == 403


def test_a_video_that_gives_nothing_fails_with_its_reason(start_service: StartService, video: Path) -> None:
    service = start_service()
    broken = cut(video.rename(video.with_name("broken.mp4")), 0.1)
    job = service.ended(service.post(broken).json["id"])
    assert job["state"] == "failed"
    assert "not a readable video" in job["error"]
    assert service.call(f"/v1/jobs/{job['id']}/result").status == 422


def test_a_bearer_token(start_service: StartService) -> None:
    service = start_service(token="secret")
    assert service.call("/healthz").status == 200
    assert service.call("/readyz").status == 200
    for path in ("/v1/models", "/metrics", "/openapi.json"):
        assert service.call(path).status == 401
    assert service.call("/v1/models", headers={"Authorization": "Bearer wrong"}).status == 401
    models = service.call("/v1/models", headers={"Authorization": "Bearer secret"}).json["models"]
    assert models[0]["action_labels"] == ["dark", "bright"]


def test_a_full_queue_cancelling_and_the_time_limit(start_service: StartService, long_video: Path) -> None:
    root = long_video.parent
    service = start_service("--root", root, "--queue", 1)
    body = {"path": str(long_video)}
    running = service.call("/v1/jobs", body=body).json["id"]
    while service.call(f"/v1/jobs/{running}").json["state"] != "running":
        time.sleep(0.05)
    waiting = service.call("/v1/jobs", body=body).json["id"]
    refused = service.call("/v1/jobs", body=body)
    assert refused.status == 429
    assert refused.headers["retry-after"] == "5"
    assert service.call("/readyz").status == 503
    assert service.call(f"/v1/jobs/{waiting}", method="DELETE").json["state"] == "cancelled"
    service.call(f"/v1/jobs/{running}", method="DELETE")
    assert service.ended(running)["state"] == "cancelled"
    assert "tsm_jobs_refused_total 1.0" in service.call("/metrics").data.decode()
    assert service.call("/readyz").status == 200


def test_a_job_over_its_time_is_ended(start_service: StartService, long_video: Path) -> None:
    service = start_service("--root", long_video.parent, "--max-seconds", 0.2)
    job = service.ended(service.call("/v1/jobs", body={"path": str(long_video)}).json["id"])
    assert job["state"] == "failed"
    assert "longer than the limit" in job["error"]


def test_a_stop_finishes_what_runs_and_the_next_start_the_rest(
    start_service: StartService, video: Path, tmp_path: Path
) -> None:
    clip = video.rename(video.with_name("clip.mp4"))
    service = start_service()
    ids = [service.post(clip).json["id"] for _ in range(4)]
    assert service.stop(signal.SIGTERM) == 0
    left = {path.parent.name for path in (tmp_path / "spool").glob("*/job.json")}
    assert left < set(ids) or left == set(ids[1:])
    again = start_service()
    for job_id in left:
        assert again.ended(job_id)["state"] == "done"


def test_a_worker_that_dies_fails_its_job_alone(
    start_service: StartService, long_video: Path, video: Path
) -> None:
    service = start_service("--root", long_video.parent)
    job_id = service.call("/v1/jobs", body={"path": str(long_video)}).json["id"]
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
    workers: list[int] = []
    while not workers:
        every = [int(pid) for p in children.parent.parent.glob("*/children") for pid in p.read_text().split()]
        workers = [pid for pid in every if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    signal_worker(workers[-1])
    job = service.ended(job_id)
    assert (job["state"], "the process that decoded it ended" in job["error"]) == ("failed", True)
    assert service.ended(service.call("/v1/jobs", body={"path": str(video)}).json["id"])["state"] == "done"


def signal_worker(pid: int) -> None:
    import os

    os.kill(pid, signal.SIGSEGV)


def test_a_stream_by_events_and_by_websocket(
    start_service: StartService, video: Path, tmp_path: Path
) -> None:
    from websockets.sync.client import connect

    service = start_service("--source", tmp_path)
    stream = service.call("/v1/streams", body={"source": str(video)}).json
    lines = service.call(stream["events"]).data.decode().split("\n\n")
    events = [json.loads(line.partition("data: ")[2]) for line in lines if line]
    assert events[0]["event"] == "start"
    assert events[-1]["event"] == "end"
    assert [e["label"] for e in events if e["event"] == "segment"] == ["dark", "bright"]
    with connect(service.address.replace("http", "ws") + stream["websocket"]) as socket:
        assert [json.loads(message) for message in socket] == events
    assert service.call("/v1/streams").json["streams"][0]["ended"]


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/vtt", "text/vtt"),
        ("text/html, application/*;q=0.9, */*;q=0.8", "application/json"),
        ("text/csv;q=0.1, text/vtt;q=0.5", "text/vtt"),
        ("application/json;q=0", None),
        ("image/*", None),
    ],
)
def test_accept(accept: str, chosen: str | None) -> None:
    assert choose_type(accept) == chosen
