"""`tsm-doctor`: what is there, what is missing, and bundles that cannot run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from entry import Command, command
from tiny_bundle import write_tiny_bundle

from tsm_runtime.commands.doctor import main
from tsm_runtime.verification import survey


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    return command("tsm-doctor", main, monkeypatch, capfdbinary)


def test_it_says_what_is_there_and_which_files_run(doctor: Command, tiny_bundle: Path) -> None:
    done = doctor("-m", tiny_bundle)
    assert (done.code, done.err) == (0, "")
    assert f"bundle {tiny_bundle}" in done.out
    assert "ok  model.fp32.onnx" in done.out
    assert "runs on onnxruntime" in done.out
    assert "h264" in done.out
    lines = done.out.splitlines()
    assert [line for line in lines if not line.startswith(" ")][:5] == [
        "machine",
        "backend",
        "gpu",
        "decoder",
        "extra",
    ]


def test_json_has_the_same(doctor: Command, tiny_bundle: Path) -> None:
    content = json.loads(doctor("--json", "-m", tiny_bundle).out)
    (bundle,) = content["bundles"]
    assert bundle["runs"]
    assert [(f["name"], f["state"]) for f in bundle["files"]] == [("model.fp32.onnx", "ok")]
    backends = {f["name"]: f for f in content["machine"] if f["topic"] == "backend"}
    assert backends["onnxruntime"]["state"] == "ok"
    assert backends["onnxruntime"]["detail"][0].isdigit()


def test_a_bundle_that_cannot_run_is_exit_6(doctor: Command, tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle")
    (folder / "model.fp32.onnx").write_bytes(b"altered")
    done = doctor("-m", folder)
    assert done.code == 6
    assert "!!  model.fp32.onnx" in done.out
    assert "SHA-256 differs from the manifest" in done.out
    assert "no model of it runs here" in done.err
    assert doctor("-m", tmp_path / "gone").code == 4


def test_what_is_missing_comes_with_its_remedy(doctor: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    find = survey.find_spec
    monkeypatch.setattr(survey, "find_spec", lambda name: None if name in ("ray", "openvino") else find(name))
    out = doctor().out
    assert "--  openvino           not installed" in out
    assert "pip install 'tsm-tal[openvino]'" in out
    assert "pip install 'tsm-tal[cluster]'" in out
