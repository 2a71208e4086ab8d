"""Metrics and health over HTTP, the log as JSON, and the files that show them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from entry import Command
from media import write_levels
from over_http import get, values

from tsm_runtime.errors import RunError, UsageError
from tsm_runtime.outputs.metrics import RunMetrics, parse_address, serving
from tsm_runtime.terminal import log_event, warn

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
DARK, GREY = 40, 128


def write_set(folder: Path) -> Path:
    folder.mkdir()
    write_levels(folder / "a.mp4", [(DARK, 1.5), (GREY, 0.54)])
    write_levels(folder / "b.mp4", [(DARK, 1.54)])
    (folder / "c.mp4").write_text("no video")
    return folder


def test_a_run_serves_what_it_has_done(
    run: Command, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[RunMetrics] = []
    take = RunMetrics.take

    def spy(self: RunMetrics, *arguments: object, **more: object) -> None:
        take(self, *arguments, **more)  # type: ignore[arg-type]
        seen.append(self)

    monkeypatch.setattr(RunMetrics, "take", spy)
    videos = write_set(tmp_path / "set")
    assert run(videos, "-m", tiny_bundle, "-o", f"{tmp_path}/out/", "--metrics", 0, "-q").code == 1
    assert len(seen) == 3
    with serving(seen[0], ("127.0.0.1", 0)) as port:
        status, text = get(port, "/metrics")
        found = values(text)
        assert get(port, "/else")[0] == 404
    assert status == 200
    assert found["tsm_videos"] == 3
    assert found["tsm_videos_done_total"] == 2
    assert found["tsm_videos_failed_total"] == 1
    assert found["tsm_video_seconds_total"] == pytest.approx(3.58, abs=0.1)
    assert found["tsm_frames_total"] == 52 + 38
    assert found["tsm_clips_total"] == 4 + 3
    assert found["tsm_queue_depth"] == 0
    assert found["tsm_scoring_wait_seconds_total"] > 0
    assert found["tsm_decoding_wait_seconds_total"] > 0


def test_health_is_lost_where_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = RunMetrics(num_videos=5)
    with serving(metrics, ("127.0.0.1", 0)) as port:
        status, text = get(port, "/healthz")
        assert status == 200
        assert json.loads(text)["videos"] == 5
        monkeypatch.setattr("tsm_runtime.outputs.metrics._STALLED_SECONDS", 0.0)
        assert get(port, "/healthz")[0] == 503
        with pytest.raises(RunError, match="cannot listen there"), serving(metrics, ("127.0.0.1", port)):
            pass


@pytest.mark.parametrize("text", ["", "a", "1.2.3.4", "99999", "-1"])
def test_addresses_without_a_port_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected PORT or HOST:PORT"):
        parse_address(text)


@pytest.mark.usefixtures("no_log_left")
def test_the_log_is_json_one_line_an_event(run: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    videos = write_set(tmp_path / "set")
    done = run(videos, "-m", tiny_bundle, "-o", f"{tmp_path}/out/", "--log-json")
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert all({"time", "level", "message"} <= line.keys() for line in lines)
    ended = {line["video"]: line for line in lines if line["message"] in ("video done", "video failed")}
    assert {name: line["message"] for name, line in ended.items()} == {
        "a": "video done",
        "b": "video done",
        "c": "video failed",
    }
    assert ended["a"]["segments"] == 1
    assert "not a readable video" in ended["c"]["reason"]
    (last,) = (line for line in lines if line["message"] == "run ended")
    assert (last["done"], last["failed"]) == (2, 1)


def test_without_a_log_events_are_not_reported(capsys: pytest.CaptureFixture[str]) -> None:
    log_event("x", a=1)
    warn("y")
    assert capsys.readouterr() == ("", "y\n")
