"""The file of an ablation, and the paper's table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from entry import Command, command

from tsm_runtime.errors import UsageError
from tsm_train.ablation.config import load_ablation
from tsm_train.ablation.ensembles import weights_by_score
from tsm_train.ablation.paper import PAPER_TABLE, coinciding
from tsm_train.commands import ablation as ablation_cli
from tsm_train.config import load_config
from tsm_train.presets import preset_names, preset_path

CONFIGS = Path(__file__).resolve().parents[3] / "benchmarks" / "configs"

BASE = """
name = "x"
[data]
root = "here"
[model]
backbone = "resnet50"
[train]
epochs = 3
[[member]]
name = "a"
[[member]]
name = "b"
model.shift = false
train = {seed = 4, epochs = 5}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "x.toml"
    path.write_text(text)
    return path


def test_members_change_keys_and_keep_the_others(tmp_path: Path) -> None:
    found = load_ablation(written(tmp_path, BASE)).members
    assert list(found) == ["a", "b"]
    assert [c.name for c in found.values()] == ["a", "b"]
    assert [c.model.backbone for c in found.values()] == ["resnet50", "resnet50"]
    assert [c.model.shift for c in found.values()] == [True, False]
    assert [(c.train.seed, c.train.epochs) for c in found.values()] == [(0, 3), (4, 5)]
    assert {c.data.root for c in found.values()} == {str(tmp_path / "here")}
    elsewhere = load_ablation(tmp_path / "x.toml", tmp_path / "data").members
    assert elsewhere["a"].data.root == str(tmp_path / "data" / "here")


def test_a_shipped_configuration_is_a_base(tmp_path: Path) -> None:
    text = 'name = "x"\npreset = "cpu-lite0-multi-t1.0"\ntrain.epochs = 2\n[[member]]\nname = "a"\n'
    with pytest.raises(UsageError, match="needs --data"):
        load_ablation(written(tmp_path, text))
    found = load_ablation(written(tmp_path, text), tmp_path).members["a"]
    expected = load_config(preset_path("cpu-lite0-multi-t1.0"), ["name=a", "train.epochs=2"], root=tmp_path)
    assert found == expected
    places = 'data = {annotations = "t.json", videos = "v"}\n'
    data = load_ablation(written(tmp_path, places + text)).members["a"].data
    assert (data.root, data.videos) == ("", str(tmp_path / "v"))


WRONG = {
    "nam = 1\n" + BASE: "unknown key 'nam'; did you mean 'name'?",
    BASE.replace('name = "x"', ""): "Object missing required field `name`",
    BASE.replace('name = "x"', 'name = "a/b"'): "name = 'a/b': Expected `str` matching regex",
    BASE.replace('name = "b"', 'name = "a"'): "member 'a': this name is taken; choose another",
    BASE.replace('name = "b"', 'name = "ensemble-equal"'): "member 'ensemble-equal': this name is taken",
    BASE.replace('name = "b"', 'name = ".b"'): "member '.b': name = '.b': Expected `str` matching regex",
    BASE.replace('name = "b"', ""): "member 2: no name",
    BASE + "data.views = []\n": "member 'b': data is the same for all members; set it in [data]",
    BASE + "clip.siz = 3\n": "member 'b' [clip]: unknown key 'siz'; did you mean 'size'?",
    BASE + "clipp.size = 3\n": "member 'b': unknown key 'clipp'; did you mean 'clip'?",
    BASE + "clip.size = 3\n": "member 'b': clip.size = 3: Expected `int` >= 32",
    BASE + "clip = 3\n": "member 'b': clip = 3: expected keys, as in clip.x = ...",
    BASE.replace("[model]", "[modle]"): "unknown key 'modle'; did you mean 'model'?",
    BASE.replace(
        "epochs = 3", "epoch = 3"
    ): "member 'a' [train]: unknown key 'epoch'; did you mean 'epochs'?",
    BASE[: BASE.index("[[")]: "no [[member]]; give each row of the table one, with a name",
    "member = 3\n" + BASE[: BASE.index("[[")]: "member: expected tables, [[member]]",
    "clip = 3\n" + BASE: "clip = 3: expected a section, [clip]",
    BASE + '[ensemble]\nmembers = ["a", "B"]': "[ensemble]: members: no member 'B'; there are a, b",
    BASE + '[ensemble]\nmembers = ["a"]': "[ensemble]: 1 member; an ensemble takes two or more",
    BASE + '[ensemble]\nmembers = ["a", "a"]': "[ensemble]: members names 'a' twice",
    BASE + "[ensemble]\nweights = [1.0]": "[ensemble]: 1 weight for 2 members (a, b)",
    BASE + "[ensemble]\nweights = [1.0, 0.0]": "[ensemble]: weight 0: expected a number above 0",
    BASE + '[ensemble]\nweights = "best"': "[ensemble]: weights = 'best': expected 'validation' or 'equal'",
    BASE + "[ensemble]\niou = 2.0": "[ensemble]: iou 2: expected 0 to 1",
    BASE + "[ensemble]\nweigths = 1": "[ensemble]: unknown key 'weigths'; did you mean 'weights'?",
    BASE + "[post_processing]\nstrides = [0]": "[post_processing]: strides[0] = 0: Expected `int` >= 1",
    BASE + '[post_processing]\nmembers = ["c"]': "[post_processing]: members: no member 'c'",
    BASE + "[[ensemble]]\n": "ensemble = [{}]: expected a section, [ensemble]",
    'preset = "cpu-lite"\n' + BASE: "cpu-lite: no such file, and no shipped configuration; did you mean",
    "clips_per_second = {resnet50 = 0}\n" + BASE: "clips_per_second",
    BASE + "[[": "not TOML",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items(), ids=range(len(WRONG)))
def test_wrong_files_get_one_line(
    text: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    tsm_ablation = command("tsm-ablation", ablation_cli.main, monkeypatch, capfdbinary)
    done = tsm_ablation(written(tmp_path, text), "--dry-run")
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.startswith("tsm-ablation: ")
    assert done.err.count("\n") == 1


def test_wrong_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    tsm_ablation: Command = command("tsm-ablation", ablation_cli.main, monkeypatch, capfdbinary)
    path = written(tmp_path, BASE)
    for words, message in (
        (["--force"], "--force trains a member again: name it with --only"),
        (["--force", "--only", "a", "--score-only"], "--score-only trains nothing"),
        (["--device", "tpu"], "expected auto, cpu or cuda"),
        (["--only", "c"], "--only: no member 'c'; there are a, b"),
        (["--only", "c", "--dry-run"], "--only: no member 'c'; there are a, b"),
        ([], f"{tmp_path}/here: "),
    ):
        done = tsm_ablation(path, "-o", tmp_path / "runs", *words)
        assert (done.code, done.out) == (2, "")
        assert message in done.err
        assert done.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_the_papers_table_is_complete() -> None:
    assert [round(row.first_public, 3) for row in PAPER_TABLE] == [
        *(0.187, 0.179, 0.381, 0.351, 0.478, 0.515, 0.575, 0.679)
    ]
    singles = PAPER_TABLE[1:7]
    baseline, best = PAPER_TABLE[0], max(row.extended_private for row in singles)
    # What the notes say of it.
    assert all(row.extended_public < baseline.extended_public for row in singles)
    assert all(row.extended_private < baseline.extended_private for row in singles)
    assert 2.8 < PAPER_TABLE[-1].extended_private / best < 3.2


def test_the_shipped_rows_coincide_with_the_papers(tmp_path: Path) -> None:
    shipped = [load_config(preset_path(name), root=tmp_path) for name in preset_names()]
    found = [
        row
        for config in shipped
        if (row := coinciding(config, "multi" if config.model.scene_head else "single"))
    ]
    assert sorted(row.name for row in found) == sorted(row.name for row in PAPER_TABLE[1:7])


def test_weights_by_score() -> None:
    assert weights_by_score([0.4, 0.0, 0.1234567]) == (0.4, 1e-6, 0.123457)
    assert weights_by_score([0.0, 0.0]) == (1.0, 1.0)


def test_the_shipped_ablations_open(
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    tsm_ablation = command("tsm-ablation", ablation_cli.main, monkeypatch, capfdbinary)
    for name, data, labels, members in (("ut", "ut_interaction", 6, 6), ("weizmann", "weizmann", 9, 5)):
        text = (CONFIGS / f"ablation_{name}.toml").read_text()
        path = written(tmp_path, text.replace(f"../../../shared/data/{data}", str(shared_data / data)))
        done = tsm_ablation(path, "-o", tmp_path / "runs", "--dry-run")
        assert (done.code, done.err) == (0, "")
        lines = done.out.splitlines()
        first = next(i for i, line in enumerate(lines) if line.startswith("training intervals"))
        last = next(i for i, line in enumerate(lines) if line.startswith("background"))
        assert last - first - 1 == labels
        assert all(int(count) > 0 for line in lines[first + 1 : last] for count in line.split()[-3:])
        assert sum(line.split()[5:6] == ["0"] for line in lines) == members  # at epoch 0


def test_the_ablation_of_360x_has_the_papers_six_rows(tmp_path: Path) -> None:
    ablation = load_ablation(CONFIGS / "ablation_x360.toml", root=tmp_path)
    found = [
        coinciding(config, "multi" if config.model.scene_head else "single")
        for config in ablation.members.values()
    ]
    assert found == list(PAPER_TABLE[1:7])
    assert ablation.ensemble is not None
    assert set(ablation.ensemble.members) == set(ablation.members)


@pytest.mark.parametrize("name", ["ut", "weizmann"])
def test_stored_results_have_the_members_of_their_configuration(name: str, tmp_path: Path) -> None:
    stored = json.loads((CONFIGS.parent / "results" / f"ablation_{name}" / "table.json").read_text())
    members = list(load_ablation(CONFIGS / stored["config"], root=tmp_path).members)
    assert [row["name"] for row in stored["rows"]][: len(members)] == members
    assert stored["rows"][len(members)]["name"].startswith("ensemble-")
