"""What the keys of [model] and [train] do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tsm_runtime.errors import UsageError
from tsm_runtime.results import BACKGROUND, IntervalScores, Result, Segment
from tsm_runtime.segments.rules import SegmentRules
from tsm_train.config import Config, load_config
from tsm_train.data.video import TrainingVideo
from tsm_train.model.batch_norm import freeze_batch_norm
from tsm_train.model.tsm import TSM
from tsm_train.samples.clips import NO_FRAME, NO_SCENE, Labels
from tsm_train.sections.training import TrainConfig
from tsm_train.training import loss_parts
from tsm_train.training import module as training_run
from tsm_train.training import train as training
from tsm_train.training.checkpoint import Checkpoint, build_model, load_checkpoint, save_checkpoint
from tsm_train.training.losses import action_loss, frame_loss, scene_loss
from tsm_train.training.module import TrainingRun
from tsm_train.training.optimizer import rate_at
from tsm_train.training.run_folder import RunFolder
from tsm_train.training.thresholds import UNKNOWN_THRESHOLD, apply_rules, best_threshold, choose_thresholds
from tsm_train.training.validation import predict, score_results


@pytest.fixture(scope="module")
def config_file(drawn_data: Path, tmp_path_factory: pytest.TempPathFactory, write_run: Any) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    file: Path = write_run(folder / "tiny.toml", drawn_data)
    return file


def run_of(config: Config, labels: Labels, folder: Path) -> TrainingRun:
    return TrainingRun(config, labels, build_model(config, labels), [], RunFolder(folder))


def fit(config: Config, folder: Path) -> dict[str, float]:
    return training.train(config, folder, device="cpu", show_progress=False)


# --- losses


def test_action_loss_of_both_heads() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]])
    softmax = action_loss(logits, torch.tensor([0, 2]))
    expected = -(logits.softmax(1)[0, 0].log() + logits.softmax(1)[1, 2].log()) / 2
    torch.testing.assert_close(softmax, expected)
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    p = logits.sigmoid()
    expected = -(targets * p.log() + (1 - targets) * (1 - p).log()).sum() / 2
    torch.testing.assert_close(action_loss(logits, targets), expected)


def test_scene_loss_is_masked_and_a_clip_weighs_the_same_in_any_company() -> None:
    logits = torch.randn(4, 3)
    scenes = torch.tensor([2, NO_SCENE, NO_SCENE, 0])
    logp = logits.log_softmax(1)
    torch.testing.assert_close(scene_loss(logits, scenes), -(logp[0, 2] + logp[3, 0]) / 4)
    halves = [scene_loss(logits[i : i + 2], scenes[i : i + 2]) for i in (0, 2)]
    torch.testing.assert_close(scene_loss(logits, scenes), (halves[0] + halves[1]) / 2)
    none = logits.clone().requires_grad_()
    scene_loss(none, torch.full((4,), NO_SCENE)).backward()
    assert none.grad is not None
    assert torch.equal(none.grad, torch.zeros(4, 3))


def test_frame_loss_leaves_out_frames_without_target() -> None:
    logits = torch.randn(2, 3, 4)
    targets = torch.tensor([[0, NO_FRAME, 3], [NO_FRAME, 1, NO_FRAME]])
    kept = logits[targets != NO_FRAME]
    torch.testing.assert_close(frame_loss(logits, targets), action_loss(kept, torch.tensor([0, 3, 1])))
    assert frame_loss(logits, torch.full((2, 3), NO_FRAME)).item() == 0
    several = torch.full((2, 3, 4), math.nan)
    several[0, 1] = torch.tensor([1.0, 0.0, 1.0, 0.0])
    torch.testing.assert_close(frame_loss(logits, several), action_loss(logits[0, 1:2], several[0, 1:2]))


def test_label_smoothing_of_both_heads() -> None:
    logits = torch.tensor([[2.0, -1.0]])
    logp, p = logits.log_softmax(1)[0], logits.sigmoid()[0]
    softmax = action_loss(logits, torch.tensor([0]), smoothing=0.2)
    torch.testing.assert_close(softmax, -(0.9 * logp[0] + 0.1 * logp[1]))
    sigmoid = action_loss(logits, torch.tensor([[1.0, 0.0]]), smoothing=0.2)
    yes, no = p.log(), (1 - p).log()
    torch.testing.assert_close(sigmoid, -(0.9 * yes[0] + 0.1 * no[0] + 0.1 * yes[1] + 0.9 * no[1]))


def test_focal_loss_of_both_heads() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.0, 1.0]])
    p = logits.softmax(1)
    expected = -((1 - p[0, 0]) ** 2 * p[0, 0].log() + (1 - p[1, 0]) ** 2 * p[1, 0].log()) / 2
    torch.testing.assert_close(action_loss(logits, torch.tensor([0, 0]), focal_gamma=2.0), expected)
    q = logits.sigmoid()[0]
    expected = -((1 - q[0]) ** 2 * q[0].log() + q[1] ** 2 * (1 - q[1]).log())
    got = action_loss(logits[:1], torch.tensor([[1.0, 0.0]]), focal_gamma=2.0)
    torch.testing.assert_close(got, expected)


def test_only_the_hardest_background_counts() -> None:
    """Of three background clips a share of a half, rounded up, is two; actions all count."""
    logits = torch.tensor([[3.0, 0.0], [0.0, 3.0], [0.0, 1.0], [0.0, -1.0]])
    each = -logits.log_softmax(1)
    expected = (each[0, 0] + each[2, 1] + each[3, 1]) / 3
    got = action_loss(logits, torch.tensor([0, 1, 1, 1]), hard_background=0.5)
    torch.testing.assert_close(got, expected)
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    losses = -(targets * logits[:3].sigmoid().log() + (1 - targets) * (1 - logits[:3].sigmoid()).log()).sum(1)
    got = action_loss(logits[:3], targets, hard_background=0.4)
    torch.testing.assert_close(got, (losses[0] + losses[1]) / 2)
    all_count = action_loss(logits[:3], targets, hard_background=1.0)
    torch.testing.assert_close(all_count, action_loss(logits[:3], targets))


def test_without_background_all_clips_count() -> None:
    logits, targets = torch.randn(4, 3), torch.tensor([0, 1, 1, 0])
    torch.testing.assert_close(
        action_loss(logits, targets, hard_background=0.3), action_loss(logits, targets)
    )


def test_logit_adjustment_adds_the_log_shares_of_the_classes(config_file: Path, tmp_path: Path) -> None:
    labels = Labels(("walk", BACKGROUND), ())
    run = run_of(load_config(config_file), labels, tmp_path)
    run.model.eval()
    frames = torch.zeros(2, 8, 32, 32, 3)
    plain, _, _ = loss_parts._logits(run.model, frames, None, per_frame=False)
    adjustment = torch.tensor([0.25, 0.75]).log()
    adjusted, _, of_frames = loss_parts._logits(run.model, frames, adjustment, per_frame=True)
    assert of_frames is not None
    torch.testing.assert_close(adjusted - plain, adjustment.expand(2, 2))
    torch.testing.assert_close(of_frames.mean(1), adjusted)
    with pytest.raises(UsageError, match="logit_adjustment is for a softmax head"):
        load_config(config_file, ["train.logit_adjustment=1.0", 'model.head="sigmoid"'])


def test_mixup_mixes_clips_and_losses(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = Labels(("walk", BACKGROUND), ())
    run = run_of(load_config(config_file, ["train.mixup=0.4"]), labels, tmp_path)
    run.model.eval()
    torch.nn.init.normal_(run.model.action_head.weight)
    frames = torch.stack([torch.full((8, 32, 32, 3), value) for value in (0, 255)]).to(torch.uint8)
    targets = (torch.tensor([0, 1]), torch.tensor([0, 0]))
    seen = []
    forward = loss_parts._logits
    monkeypatch.setattr(
        loss_parts, "_logits", lambda m, f, *a, **k: (seen.append(f), forward(m, f, *a, **k))[1]
    )
    shares = set()
    for seed in range(12):
        torch.manual_seed(seed)
        parts = loss_parts.loss_parts(run.model, run.config.train, (frames, *targets))
        value = parts["action_loss"][1]
        shares.add(round(float(seen[-1][0].mean()) / 255, 3))
        logits = forward(run.model, seen[-1], None, per_frame=False)[0]
        low, high = action_loss(logits, targets[0]), action_loss(logits, targets[0].flip(0))
        assert min(low, high) - 1e-5 <= value <= max(low, high) + 1e-5
    assert len(shares) > 3


def test_the_options_train_together(config_file: Path, tmp_path: Path) -> None:
    options = (
        "frame_loss=0.5",
        "mixup=0.2",
        "focal_gamma=1.0",
        "hard_background=0.3",
        "logit_adjustment=0.5",
        "label_smoothing=0.1",
    )
    fit(load_config(config_file, [f"train.{option}" for option in options]), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").epoch == 1


def test_frame_loss_is_a_part_of_the_loss(config_file: Path, tmp_path: Path) -> None:
    config = load_config(config_file, ["train.frame_loss=0.5", "train.epochs=1"])
    fit(config, tmp_path / "run")
    header, values = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[:2]
    row = dict(zip(header.split(","), map(float, values.split(",")), strict=True))
    assert row["frame_loss"] > 0
    expected = row["action_loss"] + 0.5 * row["scene_loss"] + 0.5 * row["frame_loss"]
    assert row["loss"] == pytest.approx(expected, rel=1e-4)


def test_the_weight_of_the_scene_loss(config_file: Path, tmp_path: Path) -> None:
    labels = Labels(("walk", BACKGROUND), ("hall", "park"))
    batch = (torch.zeros(2, 8, 32, 32, 3), torch.tensor([0, 1]), torch.tensor([0, NO_SCENE]))
    for weight in (0.0, 0.5, 2.0):
        run = run_of(load_config(config_file, [f"train.scene_loss_weight={weight}"]), labels, tmp_path)
        run.log = lambda *_, **__: None  # type: ignore[method-assign]
        loss = run.training_step(batch, 0)
        all_, actions, scenes = run._losses[0].tolist()
        assert loss.item() == pytest.approx(actions + weight * scenes, rel=1e-6)
        assert all_ == loss.item()
        assert scenes > 0


# --- schedule and optimizer


@given(step=st.integers(0, 999), warmup=st.floats(0, 5), name=st.sampled_from(["cosine", "constant", "step"]))
def test_learning_rate(step: int, warmup: float, name: Any) -> None:
    borders = (12.0, 16.0) if name == "step" else ()
    config = TrainConfig(epochs=20, warmup_epochs=warmup, schedule=name, step_epochs=borders, step_factor=0.2)
    rate, epoch = rate_at(step, 1000, config), step / 50
    if epoch < warmup:
        assert 0 < rate <= 1
        assert rate == pytest.approx((step + 1) / (warmup * 50 + 1))
    elif name == "step":
        assert rate == pytest.approx(1.0 if epoch < 12 else 0.2 if epoch < 16 else 0.04)
    elif name == "constant":
        assert rate == 1.0
    else:
        done = (epoch - warmup) / (20 - warmup)
        assert rate == pytest.approx((1 + math.cos(math.pi * done)) / 2, abs=1e-6)


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize(("which", "learning"), [("none", 52), ("partial", 1), ("all", 0)])
def test_frozen_batch_norms(which: Any, learning: int) -> None:
    model = TSM("mobilenet_v2", 3, width_mult=0.25, num_frames=2).train()
    freeze_batch_norm(model, which)
    norms = batch_norms(model)
    assert len(norms) == 52
    before = [(n.running_mean.clone(), n.weight.clone()) for n in norms]  # type: ignore[union-attr]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        model(torch.rand(2, 2, 32, 32, 3) * 255)[0].sum().backward()
        optimizer.step()
    moved = [not torch.equal(n.running_mean, m) for n, (m, _) in zip(norms, before, strict=True)]  # type: ignore[arg-type]
    assert moved == [True] * learning + [False] * (52 - learning)
    stayed = [torch.equal(n.weight, w) for n, (_, w) in zip(norms, before, strict=True)]
    assert all(stayed[learning:])
    assert [n.training for n in norms] == moved


@pytest.mark.parametrize("which", ["none", "partial", "all"])
def test_frozen_batch_norms_stay_what_they_were_for_a_whole_run(
    config_file: Path, tmp_path: Path, which: str
) -> None:
    config = load_config(config_file, [f"train.freeze_bn={which}", "train.epochs=2"])
    fit(config, tmp_path / "run")
    weights = load_checkpoint(tmp_path / "run" / "last.safetensors").weights
    means = [value for name, value in weights.items() if name.endswith("running_mean")]
    moved = [bool(mean.any()) for mean in means]  # random networks begin with means of zero
    assert moved == {"none": [True] * 52, "partial": [True] + [False] * 51, "all": [False] * 52}[which]


def test_weight_decay_is_for_matrices_alone(config_file: Path, tmp_path: Path) -> None:
    config = load_config(config_file, ["train.weight_decay=0.1", "train.freeze_bn=partial"])
    run = run_of(config, Labels(("walk", BACKGROUND), ()), tmp_path)

    class Trainer:
        estimated_stepping_batches = 10

    run._trainer = Trainer()  # type: ignore[assignment]
    groups = run.configure_optimizers()["optimizer"].param_groups
    names = {id(p): name for name, p in run.model.named_parameters()}
    decayed, free = ([names[id(p)] for p in group["params"]] for group in groups)
    assert (groups[0]["weight_decay"], groups[1]["weight_decay"]) == (0.1, 0.0)
    assert "action_head.weight" in decayed
    assert {"action_head.bias", "backbone.features.0.1.weight"} <= set(free)
    assert len(free) == 3  # of the head, and of the first batch norm
    assert all(dict(run.model.named_parameters())[name].ndim > 1 for name in decayed)


def test_the_average_follows_the_weights_and_is_what_is_stored(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[dict[str, torch.Tensor]] = []
    step = TrainingRun.optimizer_step

    def keep(run: TrainingRun, *args: Any, **kwargs: Any) -> None:
        step(run, *args, **kwargs)
        steps.append({name: value.clone() for name, value in run.model.state_dict().items()})

    monkeypatch.setattr(TrainingRun, "optimizer_step", keep)
    fit(load_config(config_file, ["train.ema=0.7"]), tmp_path / "run")
    stored = load_checkpoint(tmp_path / "run" / "last.safetensors").weights
    assert len(steps) >= 3
    for name in ("action_head.weight", "backbone.features.0.1.running_var"):
        expected = steps[0][name]
        for later in steps[1:]:
            expected = 0.7 * expected + 0.3 * later[name]
        torch.testing.assert_close(stored[name], expected)
        assert not torch.allclose(stored[name], steps[-1][name])


# --- single task, several actions at once


def test_a_single_task_model_of_videos_with_scenes(config_file: Path, tmp_path: Path) -> None:
    metrics = fit(load_config(config_file, ["model.scene_head=false"]), tmp_path / "run")
    checkpoint = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert checkpoint.labels.scenes == ()
    assert checkpoint.model().scene_head is None
    assert "scene_top1" not in metrics


def test_a_run_with_a_sigmoid_head(config_file: Path, tmp_path: Path) -> None:
    same_videos = ["data.validation_subset=training", 'data.accept=["capture-in-two-subsets"]']
    config = load_config(config_file, ["model.head=sigmoid", *same_videos])
    metrics = fit(config, tmp_path / "run")
    checkpoint = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert checkpoint.config.model.head == "sigmoid"
    assert BACKGROUND not in checkpoint.labels.actions
    assert len(checkpoint.thresholds) == len(checkpoint.labels.actions)
    assert 0 <= metrics["map"] <= 1
    video = next(Path(config.data.videos).glob("training*"))
    result = predict(checkpoint.model(), video, "v", checkpoint.labels, config.clip_spec)
    assert result.scores is not None
    found = apply_rules(result, checkpoint.labels.actions, checkpoint.segment_rules, 0.5)
    over = result.scores.action >= np.float32(checkpoint.thresholds)
    labelled = {(s.label, round(s.start_seconds * 2) + i) for s in found.segments for i in range(s_length(s))}
    expected = {(checkpoint.labels.actions[c], int(k)) for k, c in zip(*np.nonzero(over), strict=True)}
    assert labelled == expected


def test_a_sigmoid_head_is_scored_by_what_deployment_finds(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows, cells, smoothing and the shortest duration too, each of them once."""
    scored: dict[str, Result] = {}

    def keep(truth: Any, results: dict[str, Result]) -> dict[str, float]:
        scored.update(results)
        return score_results(truth, results)

    monkeypatch.setattr(training_run, "score_results", keep)
    settings = [
        "model.head=sigmoid",
        "clip.window_seconds=0.7",
        "segments.stride_seconds=0.25",
        "segments.smoothing_seconds=0.6",
        "segments.min_duration_seconds=0.7",
    ]
    config = load_config(config_file, settings)
    fit(config, tmp_path / "run")
    made = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert len(scored) == 1
    for video_id, result in scored.items():
        video = Path(config.data.videos) / f"{video_id}.mp4"
        rules = made.segment_rules
        deployed = predict(made.model(), video, video_id, made.labels, made.config.clip_spec, rules)
        spans = [(s.label, s.start_seconds, s.end_seconds) for s in result.segments]
        assert spans == [(s.label, s.start_seconds, s.end_seconds) for s in deployed.segments] != []
        assert min(end - start for _, start, end in spans) >= 0.7
        assert result.stride_seconds == 0.25


def s_length(segment: Segment) -> int:
    return round((segment.end_seconds - segment.start_seconds) * 2)


def test_a_sigmoid_head_begins_with_low_scores(config_file: Path) -> None:
    labels = Labels(("walk", "wave"), ())
    model = build_model(load_config(config_file, ["model.head=sigmoid"]), labels).eval()
    scores = model(torch.rand(1, 8, 32, 32, 3) * 255)[0].sigmoid()
    assert scores.tolist()[0] == pytest.approx([0.1, 0.1], abs=0.03)


@given(scores=st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.8]), min_size=1, max_size=12), data=st.data())
def test_the_threshold_has_the_best_f1(scores: list[float], data: st.DataObject) -> None:
    truth = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    values, there = np.array(scores, np.float32), np.array(truth)
    chosen = best_threshold(values, there)
    assert 0 < chosen <= 1
    if not there.any():
        assert chosen == UNKNOWN_THRESHOLD
        return

    def f1(threshold: float) -> float:
        found = values >= np.float32(threshold)
        return 2 * float((found & there).sum()) / float(found.sum() + there.sum())

    assert f1(chosen) == pytest.approx(max(f1(t) for t in (0.05, 0.15, 0.25, 0.4, 0.6, 0.9)))
    assert all(abs(chosen - score) > 0.02 for score in scores)  # in the middle of a gap


def test_thresholds_of_overlapping_actions() -> None:
    segments = [("speak", 0.0, 2.0), ("walk", 1.0, 2.0)]
    video = TrainingVideo(
        video_id="v",
        path=Path("v.mp4"),
        capture="v",
        subset="validation",
        segments=tuple(Segment(label=n, start_seconds=a, end_seconds=b) for n, a, b in segments),
    )
    action = [[0.3, 0.6, 0.2], [0.4, 0.65, 0.2], [0.35, 0.8, 0.2], [0.3, 0.9, 0.2], [0.1, 0.5, 0.2]]
    scores = IntervalScores(indices=np.arange(5), action=np.array(action, np.float32))
    result = Result(
        video_id="v",
        segments=(),
        scenes=(),
        interval_seconds=0.5,
        num_intervals=5,
        duration_seconds=2.5,
        complete=True,
        gaps=(),
        corrupt_frames=0,
        warnings=(),
        scores=scores,
    )
    labels = ("speak", "walk", "wave")
    thresholds = choose_thresholds([video], {"v": result}, labels, 0.5)
    assert thresholds == pytest.approx((0.2, 0.725, UNKNOWN_THRESHOLD))
    found = apply_rules(result, labels, SegmentRules(thresholds=thresholds), 0.5).segments
    assert [(s.label, s.start_seconds, s.end_seconds) for s in found] == segments
    assert [s.score for s in found] == pytest.approx([0.4, 0.9])
    rules = SegmentRules(thresholds=thresholds, min_duration_seconds=1.5, smoothing_seconds=9.0)
    (longest,) = apply_rules(result, labels, rules, 0.5).segments
    assert longest == found[0]
    assert choose_thresholds([video], {}, labels, 0.5) == (UNKNOWN_THRESHOLD,) * 3


@pytest.mark.parametrize(
    ("head", "actions", "thresholds", "said"),
    [
        ("softmax", ("walk", BACKGROUND), (0.5, 0.5), "expected 0 thresholds"),
        ("sigmoid", ("walk", "wave"), (0.5,), "expected 2 thresholds"),
        ("sigmoid", ("walk", "wave"), (), "expected 2 thresholds"),
        ("sigmoid", ("walk",), (0.0,), "above 0"),
        ("sigmoid", ("walk",), (math.nan,), "above 0"),
        ("sigmoid", ("walk", BACKGROUND), (), "a sigmoid head, but labels of a softmax head"),
        ("softmax", ("walk", "wave"), (), "a softmax head, but labels of a sigmoid head"),
    ],
)
def test_checkpoints_whose_parts_do_not_fit(
    config_file: Path, head: str, actions: tuple[str, ...], thresholds: tuple[float, ...], said: str
) -> None:
    config = load_config(config_file, [f"model.head={head}"])
    with pytest.raises(ValueError, match=said):
        Checkpoint(
            config=config,
            labels=Labels(actions, ()),
            epoch=1,
            metrics={},
            weights={},
            thresholds=thresholds,
        )


def test_thresholds_survive_the_checkpoint(config_file: Path, tmp_path: Path) -> None:
    config, labels = load_config(config_file, ["model.head=sigmoid"]), Labels(("walk", "wave"), ())
    weights = build_model(config, labels).state_dict()
    path = tmp_path / "a.safetensors"
    for thresholds in ((0.25, 1.0), (1e-6, 0.1 + 0.2)):
        save_checkpoint(
            path,
            Checkpoint(
                config=config, labels=labels, epoch=1, metrics={}, weights=weights, thresholds=thresholds
            ),
        )
        assert load_checkpoint(path).thresholds == thresholds
