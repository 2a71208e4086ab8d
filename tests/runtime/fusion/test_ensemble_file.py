"""ensemble.toml there and back, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tsm_runtime.errors import UsageError
from tsm_runtime.fusion.ensemble_file import Ensemble, EnsembleMember, ensemble_to_toml, read_ensemble
from tsm_runtime.fusion.options import FusionOptions

WHOLE = """
method = "soft-nms-gaussian"
iou = 0.6
denominator = "present"
min_score = 0.05
sigma = 0.4

[[members]]
segments = "a.json"
weight = 0.7
temperature = 1.3

[[members]]
bundle = "models/b"
bundle_sha256 = "00ff"
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_all_keys(tmp_path: Path) -> None:
    ensemble = read_ensemble(write(tmp_path / "e.toml", WHOLE))
    assert ensemble.options == FusionOptions(
        method="soft-nms-gaussian", iou=0.6, denominator="present", min_score=0.05, sigma=0.4
    )
    assert ensemble.weights == (0.7, 1.0)
    first, second = ensemble.members
    assert (first.segments, first.temperature) == (str(tmp_path / "a.json"), 1.3)
    assert (second.segments, second.bundle) == ("", str(tmp_path / "models/b"))
    assert second.bundle_sha256 == "00ff"


def test_everything_but_members_has_a_default(tmp_path: Path) -> None:
    ensemble = read_ensemble(write(tmp_path / "e.toml", 'members = [{segments = "a.json"}]'))
    assert ensemble.options == FusionOptions()


def test_there_and_back_from_another_folder(tmp_path: Path) -> None:
    ensemble = Ensemble(
        iou=0.7,
        min_score=0.02,
        members=(
            EnsembleMember(segments=str(tmp_path / "data" / 'Gr"üße.json'), weight=0.61, temperature=0.9),
            EnsembleMember(segments="b.json", bundle="models/b", bundle_sha256="ab"),
        ),
    )
    text = ensemble_to_toml(ensemble, Path("out/here"), comments=("A comment",))
    assert text.startswith("# A comment\n")
    assert 'segments = "../../b.json"' in text
    there = tmp_path / "out" / "here"
    there.mkdir(parents=True)
    read = read_ensemble(write(there / "e.toml", text))
    assert read.options == ensemble.options
    assert read.weights == (0.61, 1.0)
    assert read.members[0] == ensemble.members[0]
    assert Path(read.members[1].segments).resolve() == tmp_path / "b.json"
    assert Path(read.members[1].bundle).resolve() == tmp_path / "models" / "b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("members = 3", r"e\.toml: members = 3: Expected `array`, got `int`"),
        ("iou = 0.5", r"e\.toml: .*missing required field `members`"),
        ("members = []", r"e\.toml: no \[\[members\]\]"),
        ("members = [", r"e\.toml: not TOML"),
        ('iuo = 0.5\nmembers = [{segments = "a"}]', "unknown key 'iuo'; did you mean 'iou'"),
        ('xyz = 1\nmembers = [{segments = "a"}]', "unknown key 'xyz'; known: method, iou, "),
        ('members = [{segments = "a"}, {segment = "b"}]', "member 2: unknown key 'segment'.*'segments'"),
        ('members = [{segments = "a"}, {weight = 1}]', "member 2 has neither segments nor bundle"),
        ('members = [{segments = "a", weight = 0}]', "member 1: weight 0; expected a number above 0"),
        ('members = [{segments = "a", weight = nan}]', "member 1: weight nan"),
        ('members = [{segments = "a", temperature = -1}]', "member 1: temperature -1"),
        ('iou = 2\nmembers = [{segments = "a"}]', r"e\.toml: iou 2: expected 0 to 1"),
        (
            'method = "mean"\nmembers = [{segments = "a"}]',
            r"e\.toml: method = 'mean': expected 'paper', 'wbf', ",
        ),
    ],
)
def test_refuses(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_ensemble(write(tmp_path / "e.toml", text))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read"):
        read_ensemble(tmp_path / "none.toml")


def test_a_path_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written into TOML"):
        ensemble_to_toml(Ensemble(members=(EnsembleMember(segments="a\n.json"),)), tmp_path)
