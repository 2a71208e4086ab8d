"""Archives on a real Ray cluster: the results of a local run, whatever dies."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from entry import Command
from media import write_levels
from over_http import serving_http

from tsm_runtime.captures.selection import plan_of_video
from tsm_runtime.errors import BackendError, UsageError
from tsm_runtime.fusion.ensemble_file import Ensemble, EnsembleMember
from tsm_runtime.video.finding import VideoInput

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Ray leaves sockets and files open
    pytest.mark.timeout(400),
]
pytest.importorskip("ray")
DOUBLES = Path(__file__).parents[1] / "doubles"
DARK, GREY, BRIGHT = 40, 128, 230


def write_set(folder: Path, number: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(number):
        write_levels(folder / f"v{n:02d}.mp4", [(DARK + 15 * (n % 12), 1.0), (GREY, 0.54)])
    return folder


def results(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.glob("*.json") if p.name != "summary.json"}


def done_ids(folder: Path) -> list[str]:
    records = [json.loads(line) for line in (folder / ".tsm-run/records.jsonl").read_text().splitlines()]
    return sorted(record["id"] for record in records if record["status"] == "done")


def outcomes_of(
    cluster: Any, folder: Path, bundle: Path, kind: str, during: Any = None
) -> dict[str, str | None]:
    """Run a folder with a predictor of ray_doubles; return "done" or None for each video."""
    import ray
    import ray_doubles

    from tsm_runtime.archive.ray_run import RayOptions, connected, ray_outcomes

    plans = [plan_of_video(VideoInput(p, p.stem)) for p in sorted(folder.glob("*.mp4"))]
    arguments: dict[str, object] = {"bundle": Ensemble(members=(EnsembleMember(bundle=str(bundle)),))}
    found: dict[str, str | None] = {}
    options = RayOptions(address=cluster.address, workers=2)
    with connected(options):
        for row in ray_outcomes(ray, plans, arguments, options, kind=getattr(ray_doubles, kind)):
            name = row.outcome.plan.capture_id
            assert name not in found, "twice"
            found[name] = "done" if row.outcome.result else None
            if during is not None:
                during(len(found))
    return found


def test_results_equal_those_of_a_local_run(
    cluster: Any, run: Command, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_set(Path("set"), 6)
    Path("set/broken.mp4").write_text("no video")
    assert run("set", "-m", tiny_bundle, "-o", "local/", "--threads", 1).code == 1
    ray = ("--ray", cluster.address, "--threads", 1)
    first = run("set", "-m", tiny_bundle, "-o", "out/", *ray)
    assert first.code == 1, first.err
    assert "6 of 7 videos done, 1 failed" in first.err
    assert results(Path("out")) == results(Path("local"))
    assert [json.loads(line)["video"] for line in Path("out/failures.jsonl").read_text().splitlines()] == [
        "broken"
    ]
    again = run("set", "-m", tiny_bundle, "-o", "out/", "--resume", *ray)
    assert "0 of 7 videos done, 6 done before, 1 failed" in again.err
    run("set", "-m", tiny_bundle, "-o", "local.csv", "--threads", 1)
    assert run("set", "-m", tiny_bundle, "-o", "out.csv", *ray).code == 1
    assert Path("out.csv").read_bytes() == Path("local.csv").read_bytes()


def test_videos_are_given_by_address(
    cluster: Any, run: Command, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker fetches its own videos; HOST:PORT is the address of the cluster's head."""
    monkeypatch.chdir(tmp_path)
    write_set(Path("set"), 3)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "set"))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    assert re.fullmatch(r"[\d.]+:\d+", cluster.address)
    with serving_http(handler) as base:
        Path("list.txt").write_text("".join(f"{base}/v0{n}.mp4\n" for n in (0, 1, 2, 9)))
        options = ("-m", tiny_bundle, "-o", "out/", "--threads", 1)
        done = run("@list.txt", *options, "--ray", cluster.address)
    assert done.code == 1, done.err
    assert "3 of 4 videos done, 1 failed" in done.err
    assert f"{base}/v09.mp4: cannot be read (nothing is there" in done.err
    run("set", "-m", tiny_bundle, "-o", "local/", "--threads", 1)
    assert results(Path("out")) == results(Path("local"))


@pytest.mark.nightly
def test_a_video_that_kills_its_worker_costs_itself_alone(
    cluster: Any, tiny_bundle: Path, tmp_path: Path
) -> None:
    folder = write_set(tmp_path / "set", 4)
    (folder / "v01.mp4").rename(folder / "poison.mp4")
    found = outcomes_of(cluster, folder, tiny_bundle, "PoisonedPredictor")
    assert {name: label is None for name, label in found.items()} == {
        "poison": True,
        "v00": False,
        "v02": False,
        "v03": False,
    }


def test_the_predictor_serves_a_pipeline_of_ones_own(cluster: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    import pyarrow.parquet
    import ray

    from tsm_runtime.archive.predictor import Predictor
    from tsm_runtime.archive.ray_run import RayOptions, connected

    folder = write_set(tmp_path / "set", 2)
    (folder / "broken.mp4").write_text("no video")
    with connected(RayOptions(address=cluster.address)):
        rows = ray.data.from_items([{"path": str(path)} for path in sorted(folder.glob("*.mp4"))])
        found = rows.map_batches(
            Predictor,
            fn_constructor_kwargs={"bundle": str(tiny_bundle)},
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=1),
        )
        found.write_parquet(str(tmp_path / "results"))
    table = {row["id"]: row for row in pyarrow.parquet.read_table(tmp_path / "results").to_pylist()}
    assert {name: row["status"] for name, row in table.items()} == {
        "broken": "failed",
        "v00": "done",
        "v01": "done",
    }
    assert table["v00"]["segments"][0]["label"] == "dark"
    assert table["v00"]["segments"][0]["end"] == 1.0
    assert "not a readable video" in table["broken"]["error"]
    assert len(table["v00"]["bundle"]) == 64


def test_wrong_addresses_and_options_are_one_line(run: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    video = write_set(tmp_path / "set", 1) / "v00.mp4"
    beside = run(video, "-m", tiny_bundle, "--ray", "local", "--jobs", 2)
    assert (beside.code, beside.err) == (
        UsageError.exit_code,
        "tsm-run: --jobs is for runs on this machine: leave it out beside --ray\n",
    )
    nowhere = run(video, "-m", tiny_bundle, "--ray", "nonsense://x")
    assert nowhere.code == BackendError.exit_code
    assert "no Ray cluster there" in nowhere.err


# --- what dies ------------------------------------------------------------------------------------


def actor_processes() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::") and b"Map" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.nightly
def test_a_worker_that_is_killed_loses_nothing(cluster: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 16)
    killed = []

    def kill(count: int) -> None:
        if count == 3:
            killed.extend(actor_processes()[:1])
            os.kill(killed[0], signal.SIGKILL)

    found = outcomes_of(cluster, folder, tiny_bundle, "SlowPredictor", kill)
    assert killed
    assert sorted(found) == [f"v{n:02d}" for n in range(16)]
    assert all(found.values())


@pytest.mark.nightly
def test_a_node_that_is_killed_loses_nothing(cluster: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 16)
    extra = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)

    def kill(count: int) -> None:
        if count == 3:
            cluster.remove_node(extra, allow_graceful=False)

    found = outcomes_of(cluster, folder, tiny_bundle, "SlowPredictor", kill)
    assert sorted(found) == [f"v{n:02d}" for n in range(16)]
    assert all(found.values())


@pytest.mark.nightly
def test_a_driver_that_is_killed_goes_on_where_it_was(
    cluster: Any, tiny_bundle: Path, tmp_path: Path
) -> None:
    folder = write_set(tmp_path / "set", 16)
    out = tmp_path / "out"
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "import ray_doubles, tsm_runtime.archive.ray_run as ray_run\n"
        "ray_run.ray_outcomes.__kwdefaults__['kind'] = ray_doubles.SlowPredictor\n"
        "from tsm_runtime.commands.run import main; main()"
    )
    arguments = [
        sys.executable,
        "-c",
        program,
        str(DOUBLES),
        str(folder),
        "-m",
        str(tiny_bundle),
        "-o",
        f"{out}/",
    ]
    arguments += ["--ray", cluster.address, "--threads", "1", "--resume"]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 120
        while len(results(out)) < 4 and time.monotonic() < deadline:
            time.sleep(0.1)
        child.kill()
    before = len(results(out))
    assert 4 <= before < 16
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    kept = int(done.stderr.split(" done before")[0].split()[-1])
    assert (
        before - 1 <= kept <= before + 2
    )  # one may have been written and not yet recorded, others while it died
    assert f"{16 - kept} of 16 videos done, {kept} done before" in done.stderr
    assert done_ids(out) == [f"v{n:02d}" for n in range(16)]  # each once
    program = "from tsm_runtime.commands.run import main; main()"
    options = ["-m", str(tiny_bundle), "-o", f"{tmp_path}/local/", "--threads", "1", "-q"]
    local = subprocess.run([sys.executable, "-c", program, str(folder), *options], capture_output=True)
    assert local.returncode == 0
    assert results(out) == results(tmp_path / "local")
