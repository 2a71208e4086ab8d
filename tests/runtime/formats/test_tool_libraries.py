"""Formats of annotation tools against the tools' own libraries, installed in an environment of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tsm_runtime.commands.convert_files import Target, convert_file
from tsm_runtime.formats.options import ReadOptions
from tsm_runtime.formats.read_write import read_segments
from tsm_runtime.results import Segment

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1200)]

FOUND = "video,start,end,label,score\na,1,2,run,0.5\na,3,4.52,jump,0.9\n"

LABEL_STUDIO = """
import json, sys
from label_studio_sdk.converter import Converter
from label_studio_sdk.label_interface import LabelInterface
tasks, folder = json.load(open(sys.argv[1])), sys.argv[2]
config = ('<View><TimelineLabels name="videoLabels" toName="video"><Label value="run"/><Label value="jump"/>'
          '</TimelineLabels><Video name="video" value="$video" frameRate="$fps"/></View>')
interface = LabelInterface(config)
faults = [fault for task in tasks for prediction in task["predictions"]
          for fault in interface.validate_prediction(prediction, return_errors=True)]
assert not faults and all(interface.validate_task({"data": task["data"]}) for task in tasks), faults
accepted = [{"id": n, "data": task["data"], "annotations": [
    {"id": n, "result": task["predictions"][0]["result"], "completed_by": {"id": 1}}]}
    for n, task in enumerate(tasks, 1)]
json.dump(accepted, open(folder + "/accepted.json", "w"))
Converter(config=config, project_dir=folder).convert_to_json_min(
    folder + "/accepted.json", folder + "/minimal", is_dir=False)
"""

DATUMARO = """
import sys
import numpy as np
from datumaro.components.annotation import Label
from datumaro.components.dataset import Dataset
from datumaro.components.dataset_base import DatasetItem
from datumaro.components.media import Image
picture = np.zeros((8, 8, 3), np.uint8)
items = [DatasetItem(id=f"frame_{n:06d}", subset="a", attributes={"frame": n},
                     media=Image.from_numpy(picture),
                     annotations=[Label(0)] if 5 <= n < 15 else [Label(1)] if 20 <= n else [])
         for n in range(30)]
Dataset.from_iterable(items, categories=["run", "jump"]).export(sys.argv[1], "cvat", save_media=False)
"""

DEEPETHOGRAM = """
import sys
from deepethogram.file_io import read_labels
labels = read_labels(sys.argv[1])
print(labels.shape[1], *(int(n) for n in labels.sum(0)))
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with the libraries of Label Studio, CVAT's files, deepethogram."""
    folder = tmp_path_factory.mktemp("libraries") / "env"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin/pip", "install", "--quiet"]
    subprocess.run([*pip, "label-studio-sdk", "datumaro"], check=True)
    # deepethogram's reader of labels needs none of the rest, such as its old torch.
    subprocess.run([*pip, "--no-deps", "deepethogram", "vidio", "h5py"], check=True)
    return folder / "bin/python"


def call(python: Path, program: str, *arguments: Path) -> str:
    done = subprocess.run([python, "-c", program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def spans(segments: Sequence[Segment]) -> list[tuple[str, float, float]]:
    return [(each.label, round(each.start_seconds, 6), round(each.end_seconds, 6)) for each in segments]


def converted(tmp_path: Path, name: str, format_: Target) -> Path:
    source = tmp_path / "found.csv"
    source.write_text(FOUND)
    options = ReadOptions(frame_rate=25)
    convert_file(source, str(tmp_path / name), format_, videos=None, subset="training", options=options)
    return tmp_path / name


def test_label_studio_takes_predictions_and_its_minimal_export_is_read(
    tmp_path: Path, libraries: Path
) -> None:
    call(libraries, LABEL_STUDIO, converted(tmp_path, "tasks.json", "label-studio"), tmp_path)
    assert json.loads((tmp_path / "minimal/result.json").read_text())[0]["videoLabels"]
    for path in (tmp_path / "accepted.json", tmp_path / "minimal/result.json"):
        assert spans(read_segments(path)["a"]) == [("run", 1.0, 2.0), ("jump", 3.0, 4.52)]


def test_cvat_files_of_datumaro_are_read(tmp_path: Path, libraries: Path) -> None:
    call(libraries, DATUMARO, tmp_path / "exported")
    (path,) = (tmp_path / "exported").glob("*.xml")
    found = read_segments(path, options=ReadOptions(frame_rate=10))
    assert [spans(each) for each in found.values()] == [[("run", 0.5, 1.5), ("jump", 2.0, 3.0)]]


def test_deepethogram_reads_the_one_hot_table(tmp_path: Path, libraries: Path) -> None:
    path = converted(tmp_path, "a.csv", "one-hot")
    header = path.read_text().splitlines()[0].split(",")[1:]
    width, *counts = map(int, call(libraries, DEEPETHOGRAM, path).split())
    assert width == len(header)
    assert {name: n for name, n in zip(header, counts, strict=True) if name != "background"} == {
        "run": 25,
        "jump": 38,
    }
