"""The files in deploy/: checked against the program, and by the linters of what reads them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from entry import Command, command

from tsm_runtime.commands.live import main as live_main
from tsm_runtime.commands.run import main as run_main
from tsm_runtime.live.metrics import LiveMetrics
from tsm_runtime.live.stream_run import StreamState
from tsm_runtime.outputs.metrics import RunMetrics

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
DASHBOARDS = ("tsm-run", "tsm-live")


class _Stream:
    def state(self) -> StreamState:
        names = ("frames", "corrupt", "reconnects", "intervals", "dropped", "segments", "gaps", "queued")
        return StreamState(name="a", is_over=False, last_frame=None, **dict.fromkeys(names, 0))


def served(dashboard: str) -> set[str]:
    """Return the names of the metrics that a command serves."""
    live = LiveMetrics()
    live.watch([_Stream()])  # type: ignore[list-item]
    samples = live.samples() if dashboard == "tsm-live" else RunMetrics().samples()
    return {f"{s.name}_total" if s.kind == "counter" else s.name for s in samples}


def read_dashboard(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((DEPLOY / "grafana" / f"{name}.json").read_text())
    return read


def expressions(dashboard: Mapping[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboards_show_metrics_that_there_are(name: str) -> None:
    dashboard = read_dashboard(name)
    shown = {found for text in expressions(dashboard) for found in re.findall(r"tsm_\w+", text)}
    assert shown <= served(name) | {"tsm_gpu_memory_used_bytes"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"]) == 8


@pytest.mark.parametrize(("service", "main"), [("run", run_main), ("live", live_main)])
def test_compose_starts_options_that_there_are(
    service: str, main: Any, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    run: Command = command(f"tsm-{service}", main, monkeypatch, capfdbinary)
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert set(compose["services"]) == {"run", "live", "prometheus", "grafana"}
    known = run("--help").out
    flags = re.findall(r"--[a-z-]+", compose["services"][service]["command"])
    assert len(flags) >= 5
    assert [flag for flag in flags if flag not in known] == []
    scraped = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    assert f"{service}:9400" in [each["static_configs"][0]["targets"][0] for each in scraped]


def test_all_yaml_can_be_read() -> None:
    for path in DEPLOY.rglob("*.y*ml"):
        assert yaml.safe_load(path.read_text())


# --- linters --------------------------------------------------------------------------------------


def lint(*arguments: object) -> None:
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_matches_its_schema() -> None:
    if find_spec("check_jsonschema") is None:
        pytest.skip("needs check-jsonschema")
    schema = ("--builtin-schema", "vendor.compose-spec")
    lint(sys.executable, "-m", "check_jsonschema", *schema, DEPLOY / "compose.yaml")


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool, of Debian's package prometheus")
    return found


def test_prometheus_accepts_its_configuration(promtool: str) -> None:
    lint(promtool, "check", "config", DEPLOY / "prometheus.yml")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_prometheus_accepts_the_expressions_of_a_dashboard(name: str, promtool: str, tmp_path: Path) -> None:
    found = expressions(read_dashboard(name))
    rules = [{"record": f"tsm:panel{number}", "expr": text} for number, text in enumerate(found)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": name, "rules": rules}]}))
    lint(promtool, "check", "rules", tmp_path / "rules.yml")


def lost(before: Any, after: Any, at: str = "") -> Iterator[str]:
    """Yield the places where a value is missing or differs."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from lost(value, after.get(key), f"{at}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from lost(one, other, f"{at}[{number}]")
    elif before != after:
        yield at


@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafana_knows_each_field_of_a_dashboard(name: str) -> None:
    """A field that Grafana's own model of a dashboard does not know is lost in reading."""
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")

    def read(given: dict[str, Any]) -> Any:
        return json.loads(encoder.JSONEncoder().encode(models.Dashboard.from_json(given)))

    dashboard = read_dashboard(name)
    assert list(lost(dashboard, read(dashboard))) == []
    wrong = dashboard | {"panles": []}
    assert list(lost(wrong, read(wrong))) == ["/panles"]
