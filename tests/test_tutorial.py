"""Every command of docs/tutorial.md runs, in order, on drawn videos and with a tiny model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tsm_train.config import load_config

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
SMALLER = (
    ("--seconds 60", "--seconds 36"),
    ("--size 144x144", "--size 64x64"),
    (
        'backbone = "efficientnet_lite0"\npretrained = "demo"       # the embedded demo model;',
        'backbone = "mobilenet_v2"\nwidth_mult = 0.25         # not',
    ),
    ("size = 96", "size = 48"),
    ("epochs = 3", "epochs = 1"),
    ("passes = 2", "passes = 1\nepochs = 2"),
)
"""What makes the tutorial's hour two minutes. Each must be there."""

COMMANDS = re.findall(r"^\$ (.+)$", TUTORIAL, re.MULTILINE)
FILES = dict(re.findall(r"[Ss]ave as `([^`]+)`:\n\n```\w+\n(.*?)```", TUTORIAL, re.DOTALL))


def smaller(text: str) -> str:
    for given, less in SMALLER:
        text = text.replace(given, less)
    return text


def annotate(folder: Path) -> None:
    """Save the drawn truth as VIA does: a project of three videos, labels by the number of an option."""
    database = json.loads((folder / "my" / "ground_truth.json").read_text())["database"]
    labels = sorted({entry["label"] for video in database.values() for entry in video["annotations"]})
    vids = {name: str(number) for number, name in enumerate(database, start=1)}
    project = {
        "project": {"pid": "__VIA_PROJECT_ID__", "vid_list": list(vids.values())},
        "attribute": {
            "1": {
                "aname": "TEMPORAL-SEGMENTS",
                "anchor_id": "FILE1_Z2_XY0",
                "type": 4,
                "options": {str(number): label for number, label in enumerate(labels)},
            }
        },
        "file": {vid: {"fid": vid, "fname": f"{name}.mp4", "type": 4} for name, vid in vids.items()},
        "view": {vid: {"fid_list": [vid]} for vid in vids.values()},
        "metadata": {
            f"{vids[name]}_{n}": {
                "vid": vids[name],
                "flg": 0,
                "z": entry["segment"],
                "xy": [],
                "av": {"1": str(labels.index(entry["label"]))},
            }
            for name, video in database.items()
            for n, entry in enumerate(video["annotations"])
        },
    }
    (folder / "my" / "via.json").write_text(json.dumps(project))


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "COLUMNS": "120",
    }
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )


def test_what_is_made_smaller_is_there() -> None:
    assert [given for given, _ in SMALLER if given not in TUTORIAL] == []
    assert set(FILES) == {"my.toml", "my/scenes.csv"}


def test_the_configuration_is_one(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(FILES["my.toml"])
    config = load_config(tmp_path / "my.toml")
    assert (config.model.backbone, config.clip.size, config.train.epochs) == ("efficientnet_lite0", 96, 3)
    x360 = re.findall(r"```toml\n(\[data\].*?)```", TUTORIAL, re.DOTALL)[-1]
    (tmp_path / "x360.toml").write_text(f'name = "x360"\n{x360}')
    assert load_config(tmp_path / "x360.toml").data.views == ("panoramic",)


@pytest.mark.timeout(900)
def test_every_command_runs(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    printed: list[str] = []
    for line in COMMANDS:
        if line.startswith("pip install"):
            continue
        if line.startswith("tsm-inspect") and not (tmp_path / "my.toml").exists():
            annotate(tmp_path)
            for name, content in FILES.items():
                (tmp_path / name).write_text(smaller(content))
        done = run(smaller(line), tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        printed.append(done.stdout)
    split = json.loads((tmp_path / "my" / "split.json").read_text())
    assert [len(split["subsets"][name]) for name in ("training", "validation", "test")] == [2, 1, 0]
    config = msgspec.json.decode((tmp_path / "runs" / "my" / "config.json").read_bytes())
    assert config["data"]["format"] == "via"
    labels = json.loads((tmp_path / "runs" / "my" / "labels.json").read_text())
    truth = json.loads((tmp_path / "my" / "ground_truth.json").read_text())["database"]
    known = {entry["label"] for video in truth.values() for entry in video["annotations"]}
    assert labels["actions"] == [*sorted(known), "background"]
    assert {"room", "street", "park"} > set(labels["scenes"])
    assert "mAP" in printed[-2]
    assert "validation_0000" in json.loads((tmp_path / "my" / "found.json").read_text())["results"]
    assert "<html" in (tmp_path / "my" / "page.html").read_text()
    assert json.loads((tmp_path / "my" / "to_correct.json").read_text())["project"]
