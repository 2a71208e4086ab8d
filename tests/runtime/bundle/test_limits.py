"""Bundles from strangers: what is no regular file, too large, or a number beyond any use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from entry import PEAK_KILOBYTES
from tiny_bundle import write_tiny_bundle

from tsm_runtime.bundle.bundle import load_bundle
from tsm_runtime.errors import BundleError, RunError, UsageError
from tsm_runtime.files import read_text
from tsm_runtime.pipeline.prefetch import Prefetcher
from tsm_runtime.strict import read_toml


@pytest.mark.parametrize("name", ["manifest.json", "model.fp32.onnx"])
@pytest.mark.parametrize("target", ["/dev/zero", "../outside"])
def test_links_out_of_the_bundle_are_refused(tmp_path: Path, name: str, target: str) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle")
    (folder / name).rename(tmp_path / "outside")
    (folder / name).symlink_to(target)
    with pytest.raises(BundleError, match=rf"{name}: leads out of the bundle or is no regular file; copy"):
        load_bundle(folder).model_bytes("model.fp32.onnx")


def test_a_link_within_the_bundle_is_followed(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle")
    (folder / "model.fp32.onnx").rename(folder / "blob")
    (folder / "model.fp32.onnx").symlink_to("blob")
    assert load_bundle(folder).model_bytes("model.fp32.onnx")


@pytest.mark.parametrize("name", ["manifest.json", "model.fp32.onnx"])
def test_pipes_do_not_wait(tmp_path: Path, name: str) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(BundleError, match="is no regular file"):
        load_bundle(folder).model_bytes("model.fp32.onnx")


@pytest.mark.parametrize(("name", "size"), [("manifest.json", 2**40), ("model.fp32.onnx", 2**42)])
def test_a_file_too_large_is_not_read(tmp_path: Path, name: str, size: int) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle")
    os.truncate(folder / name, size)
    program = (
        "import sys; from pathlib import Path; from tsm_runtime.bundle.bundle import load_bundle\n"
        "try: load_bundle(Path(sys.argv[1])).model_bytes('model.fp32.onnx')\n"
        f"except Exception as error: print(error, {PEAK_KILOBYTES})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True
    )
    assert f"{name}: {size} bytes; expected at most" in done.stdout
    assert int(done.stdout.split()[-1]) < 200_000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("interval_seconds", 1e-300),
        ("interval_seconds", 1e300),
        ("num_frames", 10**9),
        ("size", 10**9),
        ("size", 10**40),
        ("window_seconds", 1e300),
        ("stride_seconds", 1e-300),
        ("smoothing_seconds", 1e300),
        ("min_duration_seconds", 1e300),
    ],
)
def test_numbers_beyond_any_use_are_refused(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(BundleError):
        load_bundle(write_tiny_bundle(tmp_path / "bundle", **{key: value}))


def test_numbers_of_thousands_of_digits_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle")
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"size": 32', f'"size": {"9" * 5000}'))
    with pytest.raises(BundleError):
        load_bundle(folder)
    settings = tmp_path / "settings.toml"
    for content in (f"iou = {'9' * 5000}", f"a = {'[' * 5000}"):
        settings.write_text(content)
        with pytest.raises(UsageError, match="not TOML"):
            read_toml(settings)


def test_a_text_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tsm_runtime.files._MOST_TEXT_BYTES", 2**20)
    bomb = tmp_path / "bomb.json.gz"
    subprocess.run(f"head -c 20000000 /dev/zero | gzip > {bomb}", shell=True, check=True)
    for path in (Path("/dev/zero"), bomb):
        with pytest.raises(UsageError, match="more than 1 MiB of text"):
            read_text(path)


def test_a_missing_thread_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Prefetcher[str, int](1) as prefetcher, pytest.raises(RunError, match="gives no further thread"):
        prefetcher.start("video", lambda: [1])


def test_a_manifest_survives_any_value_of_any_key(tmp_path: Path) -> None:
    """Each key in turn gets values of all kinds: a bundle or one error, nothing else."""
    folder = write_tiny_bundle(tmp_path / "bundle")
    good = json.loads((folder / "manifest.json").read_text())
    values = [
        None,
        True,
        -1,
        0,
        2**64,
        -(2**70),
        1e308,
        1e-308,
        "",
        "../x",
        "\udcff",
        [],
        [[]],
        {},
        {"": {}},
        "9" * 10**4,
    ]
    outcomes = {"read": 0, "refused": 0}
    keys = [*good, "thresholds", "head", "view", "crop", "verifications", "checkpoint", "built_with", "shift"]
    for key in keys:
        for value in values:
            (folder / "manifest.json").write_text(json.dumps({**good, key: value}))
            try:
                load_bundle(folder)
                outcomes["read"] += 1
            except BundleError:
                outcomes["refused"] += 1
    assert outcomes["read"] + outcomes["refused"] == len(keys) * len(values)
    assert outcomes["refused"] > outcomes["read"] > 0
