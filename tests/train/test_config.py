from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tsm_runtime.errors import UsageError
from tsm_runtime.segments.rules import SegmentRules
from tsm_train.ablation.config import load_ablation
from tsm_train.config import Config, load_config
from tsm_train.sections.network import ClipConfig

ROOT = Path(__file__).resolve().parents[2]
SMALLEST = 'name = "run"\ndata = {annotations = "truth.json", videos = "videos"}\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text)
    return path


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert message.startswith((str(path), "--set"))
    assert "\n" not in message
    return message


def test_defaults_are_those_of_the_method(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, SMALLEST))
    assert (config.clip.num_frames, config.clip.size) == (8, 256)
    assert (config.train.learning_rate, config.model.dropout, config.model.fold_div) == (0.001, 0.5, 8)
    assert config.clip_spec.size == config.clip.size
    assert ClipConfig() == config.clip


def test_paths_start_at_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    path = written(tmp_path / "configs", SMALLEST)
    monkeypatch.chdir(tmp_path)
    config = load_config(path, ["data.annotations=../truth.json", "model.pretrained=weights.safetensors"])
    assert config.data.annotations == str(tmp_path / "truth.json")
    assert config.data.videos == str(tmp_path / "configs" / "videos")
    assert config.data.cache == ""
    assert config.model.pretrained == str(tmp_path / "configs" / "weights.safetensors")
    assert load_config(path, ["model.pretrained=imagenet"]).model.pretrained == "imagenet"
    assert load_config(path, ["data.videos=~/v"]).data.videos == str((Path.home() / "v").resolve())


@pytest.mark.parametrize(
    ("section", "key", "nearest"),
    [
        ("data", "anotations", "annotations"),
        ("model", "backbon", "backbone"),
        ("clip", "interval", "interval_seconds"),
        ("train", "epoch", "epochs"),
        ("augment", "flips", "flip"),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path: Path, section: str, key: str, nearest: str) -> None:
    said = refusal(written(tmp_path, SMALLEST), f"{section}.{key}=1")
    assert f"[{section}]: unknown key {key!r}; did you mean {nearest!r}?" in said


def test_an_unknown_section_or_a_key_like_no_other(tmp_path: Path) -> None:
    said = refusal(written(tmp_path, SMALLEST + "[trian]\nepochs = 3\n"))
    assert said.endswith("unknown key 'trian'; did you mean 'train'?")
    said = refusal(written(tmp_path, SMALLEST + "[clip]\nzzz = 3\n"))
    assert said.endswith(
        "[clip]: unknown key 'zzz'; known: interval_seconds, num_frames, size, window_seconds, projection"
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epochs=0", "train.epochs = 0: Expected `int` >= 1"),
        ("train.epochs=1.5", "train.epochs = 1.5: Expected `int`, got `float`"),
        ("train.epochs=many", "train.epochs = 'many': Expected `int`, got `str`"),
        ("train.seed=-1", "train.seed = -1: Expected `int` >= 0"),
        ("train.learning_rate=nan", "train.learning_rate = nan: Expected `float` > 0.0"),
        ("train.schedule=linear", "train.schedule = 'linear': expected 'cosine', 'step' or 'constant'"),
        ("train.schedule=step", "train: schedule 'step' and step_epochs, as [10, 15], go together"),
        ("train.step_epochs=[3]", "train: schedule 'step' and step_epochs, as [10, 15], go together"),
        ("train={schedule='step', step_epochs=[9, 3]}", "train: step_epochs must increase, got [9.0, 3.0]"),
        ("train={schedule='step', step_epochs=[20]}", "train: step_epochs [20.0]: the run has 20 epochs"),
        ("train.ema=1", "train.ema = 1: Expected `float` < 1.0"),
        (
            "model.backbone=resnet5",
            "model.backbone = 'resnet5': did you mean 'resnet50'? expected 'resnext101_",
        ),
        ("train.freeze_bn=first", "train.freeze_bn = 'first': expected 'none', 'partial' or 'all'"),
        ("train.class_balance=2", "train.class_balance = 2: Expected `float` <= 1.0"),
        ("train.background_ratio=-1", "train.background_ratio = -1: Expected `float` >= 0.0"),
        ("model.head=logits", "model.head = 'logits': expected 'softmax' or 'sigmoid'"),
        ("augment.never_flip=['a', 'a']", "augment: flip_pairs and never_flip name a label twice: a"),
        ("augment.flip_pairs=[['a']]", "augment.flip_pairs"),
        ("store.quality=20", "store.quality = 20: Expected `int` >= 50"),
        ("store.size=128", "store.size 128 is below clip.size 256; pictures are not enlarged"),
        ("model.fold_div=1", "model.fold_div = 1: Expected `int` >= 2"),
        ("model.shift=1", "model.shift = 1: Expected `bool`, got `int`"),
        ("model.shift_direction=future", "model.shift_direction = 'future': expected 'both' or 'past'"),
        ("model.dropout=1", "model.dropout = 1: Expected `float` < 1.0"),
        ("clip.size=16", "clip.size = 16: Expected `int` >= 32"),
        ("augment.crop_scale=0", "augment.crop_scale = 0: Expected `float` > 0.0"),
        ("train=3", "train = 3: Expected `object`, got `int`"),
        ("name=../elsewhere", "name = '../elsewhere': Expected `str` matching regex"),
        ("name=", "name = '': Expected `str` matching regex"),
    ],
)
def test_a_wrong_value_is_reported_with_its_key(tmp_path: Path, override: str, said: str) -> None:
    assert said in refusal(written(tmp_path, SMALLEST), override)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("run.yaml", "name: run\n", "; expected TOML (key = value), not YAML"),
        ("run.json", '{"name": "run"}', "; expected TOML (key = value), not JSON"),
        (
            "run.toml",
            'name = "run"\n[data]\nroot = "C:\\Users\\me"\n',
            "; write a path with / or in single quotes",
        ),
        ("run.toml", "name = run\n", "; put text in quotes"),
        ("run.toml", "name = 3 4\n", "(at line 1, column 10)"),
    ],
)
def test_what_is_not_toml_gets_a_hint(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    assert refusal(tmp_path / name).endswith(said)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert "missing required field `name`" in refusal(written(tmp_path, SMALLEST.splitlines()[1]))
    assert "missing required field `data`" in refusal(written(tmp_path, 'name = "run"'))
    said = refusal(written(tmp_path, 'name = "run"\n[data]\nvideos = "v"'))
    assert "[data]: `annotations` is missing; give `root`, or `annotations` and `videos`" in said


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.root=x"], "[data]: give `root`, or `annotations` and `videos`, not both"),
        (["data.annotations="], "`annotations` is missing; give `root`"),
        (["data.videos="], "`videos` is missing; give `root`"),
        (["data.format=x360"], "the format x360 takes `root`, the folder that holds panoramic/"),
        (["data.format=xml"], "data.format = 'xml': expected 'auto', 'activitynet', 'x360', 'csv', 'via', "),
        (["data.views=[]"], "data.views = []: Expected `array` of length >= 1"),
        (['data.views=["panoramic", "panoramic"]'], "views names 'panoramic' twice"),
        (
            ['data.views=["front"]'],
            "data.views[0] = 'front': expected 'panoramic', 'third_person', 'monocular' or",
        ),
        (["data.eyes=middle"], "data.eyes = 'middle': expected 'left', 'right' or 'both'"),
        (['data.labels=["a", "a"]'], "labels names 'a' twice"),
        (["data.fold=-1"], "data.fold = -1: Expected `int` >= 0"),
        (["data.capture_pattern=("], "capture_pattern '(': missing ), unterminated subpattern"),
        (["data.capture_pattern=a+"], "capture_pattern 'a+': expected one group, as '^(.+)_cam'"),
        (["data.label_map=3"], "data.label_map = 3: Expected `object`, got `int`"),
    ],
)
def test_a_data_section_that_does_not_fit(tmp_path: Path, overrides: list[str], said: str) -> None:
    assert said in refusal(written(tmp_path, SMALLEST), *overrides)


def test_which_half_the_model_sees(tmp_path: Path) -> None:
    path = written(tmp_path, 'name = "run"\ndata.root = "x360"\n')
    for views, eyes, crop in (
        ('["panoramic"]', "right", ""),
        ('["binocular"]', "left", "left"),
        ('["binocular"]', "right", "right"),
        ('["binocular"]', "both", "left"),
        ('["binocular", "panoramic"]', "left", ""),
    ):
        config = load_config(path, [f"data.views={views}", f"data.eyes={eyes}"])
        assert config.clip_spec.crop == config.data.crop == crop
    assert load_config(path).data.root == str(tmp_path / "x360")


def test_unreadable_files(tmp_path: Path) -> None:
    assert "not TOML" in refusal(written(tmp_path, "name = = 3"))
    assert "No such file" in refusal(tmp_path / "none.toml")
    assert "directory" in refusal(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b'name = "\xff\xfe"')
    assert "not UTF-8" in refusal(tmp_path / "binary.toml")


def test_overrides_replace_and_add(tmp_path: Path) -> None:
    path = written(tmp_path, SMALLEST + "[train]\nepochs = 3\nbatch_size = 4\n")
    overrides = [
        "train.epochs=5",
        "model.backbone=resnet50",
        "model.shift=false",
        "augment.flip = 0",
        "name='x'",
    ]
    config = load_config(path, overrides)
    assert (config.train.epochs, config.train.batch_size) == (5, 4)
    assert (config.model.backbone, config.model.shift) == ("resnet50", False)
    assert (config.augment.flip, config.name) == (0.0, "x")


@pytest.mark.parametrize("override", ["train.epochs", "name.first=x", "train.epochs.most=3"])
def test_bad_overrides(tmp_path: Path, override: str) -> None:
    path = written(tmp_path, SMALLEST + "[train]\nepochs = 3\n")
    assert refusal(path, override).startswith(f"--set {override!r}: ")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks" / "configs").glob("*.toml")), ids=lambda p: p.stem
)
def test_shipped_configurations_load(path: Path, tmp_path: Path) -> None:
    load = load_ablation if path.stem.startswith("ablation") else load_config
    assert load(path, root=tmp_path).name


def test_a_configuration_survives_the_checkpoint(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, SMALLEST), ["model.width_mult=0.25"])
    assert msgspec.json.decode(msgspec.json.encode(config), type=Config) == config


def test_settings_of_window_and_segments(tmp_path: Path) -> None:
    path = written(tmp_path, SMALLEST + "[segments]\nstride_seconds = 0.125\nsmoothing_seconds = 0.6\n")
    config = load_config(path, ["clip.window_seconds=1"])
    assert (config.clip_spec.window_seconds, config.clip_spec.num_overlapping) == (1.0, 4)
    assert config.segment_rules == SegmentRules(smoothing_seconds=0.6)
    assert "window 0.25 s: expected the interval of 0.5 s or more" in refusal(
        path, "clip.window_seconds=0.25"
    )
    assert "stride 0.3 s: expected the interval of 0.5 s or a whole" in refusal(
        path, "segments.stride_seconds=0.3"
    )
    assert "segments.smoothing_seconds = -1" in refusal(path, "segments.smoothing_seconds=-1")
