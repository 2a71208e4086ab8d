"""One frame at a time equals whole clips: the online step in PyTorch, and training a model that it fits."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tsm_train.config import load_config
from tsm_train.model.online import OnlineTSM
from tsm_train.model.pretrained import load_pretrained
from tsm_train.model.shift import ShiftedConv2d
from tsm_train.model.tsm import TSM, Probabilities
from tsm_train.training.checkpoint import load_checkpoint
from tsm_train.training.train import train

SIZE, NUM_FRAMES = 32, 4
TOLERANCE = 1e-6
"""Of a probability: heads and mean are float32. The backbones here are float64, whose rounding is less."""


def settled(model: TSM) -> TSM:
    """A random model whose activations are of order one and whose logits vary by one from clip to clip."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(pictures(4, model.num_frames))
        features = model.eval().frame_features(pictures(4, model.num_frames)).mean(1)
        for head in (model.action_head, model.scene_head):
            if head is not None:
                head.weight.normal_().div_(head(features).std(0)[:, None])
                head.bias.sub_(head(features).mean(0))
    model.backbone.double()
    return model


def pictures(clips: int, num_frames: int = NUM_FRAMES) -> Tensor:
    """No two frames alike in colour, so that what a frame sees of others matters."""
    plain = torch.randint(0, 192, (clips, num_frames, 1, 1, 3))
    return (plain + torch.randint(0, 64, (clips, num_frames, SIZE, SIZE, 3))).to(torch.uint8)


def stepped(step: OnlineTSM, clips: Tensor, states: tuple[Tensor, ...] | None = None) -> list[list[Tensor]]:
    """What the step gives after each frame."""
    given = list(states or step.initial_states(len(clips), SIZE))
    outputs = []
    with torch.inference_mode():
        for place in range(clips.shape[1]):
            outputs.append(list(step(clips[:, place], *given)))
            given = outputs[-1][-len(given) :]
    return outputs


def clip_wise(model: TSM, clips: Tensor) -> tuple[Tensor, ...]:
    """What the clip-wise model says of the frames there are, however many."""
    cut = copy.deepcopy(model)
    cut.num_frames = clips.shape[1]
    for module in cut.backbone.modules():
        if isinstance(module, ShiftedConv2d):
            module.num_frames = clips.shape[1]
    with torch.inference_mode():
        scores: tuple[Tensor, ...] = Probabilities(cut)(clips)
    return scores


def distance(one: tuple[Tensor, ...] | list[Tensor], other: tuple[Tensor, ...]) -> float:
    return max(float((a - b).detach().abs().max()) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module", params=["mobilenet_v2", "efficientnet_lite0", "resnet50"])
def model(request: pytest.FixtureRequest) -> TSM:
    torch.manual_seed(0)
    return settled(TSM(request.param, 6, 3, num_frames=NUM_FRAMES, shift_direction="past"))


@pytest.fixture(scope="module")
def small() -> TSM:
    torch.manual_seed(0)
    return settled(TSM("mobilenet_v2", 6, 3, num_frames=NUM_FRAMES, shift_direction="past", width_mult=0.25))


def test_frame_by_frame_equals_clip_wise(model: TSM) -> None:
    """After every frame, for intervals one after another, states of zeros at each one's begin."""
    torch.manual_seed(1)
    step = OnlineTSM(model)
    said = []
    for numbers in ((1, 2, 3, 4), (4,)):
        clips = pictures(2)
        outputs = stepped(step, clips)
        for number in numbers:
            assert distance(outputs[number - 1][:2], clip_wise(model, clips[:, :number])) < TOLERANCE
        said.append(outputs[-1][0])
    assert distance(said[:1], (said[1],)) > 1e-2  # the model scores the intervals differently


def test_without_reset_or_without_states_it_is_another_model(small: TSM) -> None:
    torch.manual_seed(1)
    step, clips = OnlineTSM(small), pictures(2)
    expected = Probabilities(small)(clips)
    before = stepped(step, pictures(2))[-1][2:]
    assert distance(stepped(step, clips, tuple(before))[-1][:2], expected) > 1e-2
    mean_reset = tuple(torch.zeros_like(state) if i < 2 else state for i, state in enumerate(before))
    assert distance(stepped(step, clips, mean_reset)[-1][:2], expected) > 1e-3
    forgetful = step.initial_states(2, SIZE)
    with torch.inference_mode():
        for place in range(NUM_FRAMES):
            action, scene, *states = step(clips[:, place], *forgetful)
            forgetful = (*states[:2], *forgetful[2:])
    assert distance([action, scene], expected) > 1e-3


def test_streams_are_independent(small: TSM) -> None:
    torch.manual_seed(1)
    step, clips = OnlineTSM(small), pictures(3)
    alone = stepped(step, clips[1:2])[-1]
    states = step.initial_states(3, SIZE)
    for state in states:
        state[0], state[2] = torch.nan, torch.inf
    together = stepped(step, clips, states)[-1]
    assert together[0][0].isnan().all()
    assert distance([value[1:2] for value in together], tuple(alone)) < TOLERANCE


def test_streams_may_be_at_different_frames(small: TSM) -> None:
    torch.manual_seed(1)
    step, clips = OnlineTSM(small), pictures(2)
    ahead = stepped(step, clips[:1, :3])[-1][2:]
    states = tuple(
        torch.cat([one, zeros]) for one, zeros in zip(ahead, step.initial_states(1, SIZE), strict=True)
    )
    action, scene, *_ = step(torch.stack([clips[0, 3], clips[1, 0]]), *states)
    first, second = clip_wise(small, clips[:1]), clip_wise(small, clips[1:, :1])
    assert distance([action[:1], scene[:1]], first) < TOLERANCE
    assert distance([action[1:], scene[1:]], second) < TOLERANCE


def test_states_are_those_of_the_original() -> None:
    """The caches of the original's online_demo (mobilenet_v2 at 224 px), channel for channel."""
    shapes = OnlineTSM(TSM("mobilenet_v2", 5, shift_direction="past").eval()).state_shapes(224)
    caches = [(3, 56), *[(4, 28)] * 2, *[(8, 14)] * 3, *[(12, 14)] * 2, *[(20, 7)] * 2]
    assert shapes == {
        "feature_sum": (1280,),
        "count": (1,),
        **{f"state_{i}": (channels, edge, edge) for i, (channels, edge) in enumerate(caches)},
    }


def test_a_model_without_shift_keeps_the_mean_only() -> None:
    torch.manual_seed(0)
    plain = settled(TSM("mobilenet_v2", 6, num_frames=NUM_FRAMES, shift=False, width_mult=0.25))
    step, clips = OnlineTSM(plain), pictures(2)
    assert list(step.state_shapes(SIZE)) == ["feature_sum", "count"]
    assert distance(stepped(step, clips)[-1][:1], Probabilities(plain)(clips)) < TOLERANCE


def test_convolutions_of_few_channels_have_no_state() -> None:
    torch.manual_seed(0)
    options = {"shift_direction": "past", "width_mult": 0.25, "fold_div": 16}  # 8 channels: none is shifted
    narrow = settled(TSM("mobilenet_v2", 6, num_frames=NUM_FRAMES, **options))  # type: ignore[arg-type]
    step, clips = OnlineTSM(narrow), pictures(2)
    assert len(step.state_shapes(SIZE)) == 2 + 7  # three of the ten have 8 channels
    assert distance(stepped(step, clips)[-1][:1], Probabilities(narrow)(clips)) < TOLERANCE


def test_the_model_is_left_as_it_is_and_its_weights_are_shared(small: TSM) -> None:
    clips = pictures(1)
    before = Probabilities(small)(clips)
    step = OnlineTSM(small)
    stepped(step, clips)
    assert all(torch.equal(a, b) for a, b in zip(before, Probabilities(small)(clips), strict=True))
    assert {id(p) for p in step.parameters()} == {id(p) for p in small.parameters()}


def test_scores_of_independent_actions(small: TSM) -> None:
    clips = pictures(2)
    outputs = stepped(OnlineTSM(small, sigmoid=True), clips)[-1]
    assert distance(outputs[:2], Probabilities(small, sigmoid=True)(clips)) < TOLERANCE


def test_a_model_that_sees_later_frames_is_refused() -> None:
    with pytest.raises(ValueError, match=r"features\.3\.conv\.0\.0 sees later frames \(direction 'both'\)"):
        OnlineTSM(TSM("mobilenet_v2", 5, width_mult=0.25))


def test_weights_of_the_original_load(tmp_path: Path) -> None:
    """Its keys: base_model. in front, .net where its shift wraps a convolution. Direction is no weight."""
    source = TSM("resnet50", 5).backbone.state_dict()
    renamed = {
        f"module.base_model.{key.replace('conv1.weight', 'conv1.net.weight')}": value
        for key, value in source.items()
    }
    torch.save({"state_dict": renamed}, tmp_path / "original.pth.tar")
    model = TSM("resnet50", 5, shift_direction="past")
    load_pretrained(model, tmp_path / "original.pth.tar")
    loaded = model.backbone.state_dict()
    assert loaded.keys() == source.keys()
    assert all(torch.equal(loaded[key], value) for key, value in source.items())


def test_training_with_shift_from_the_past(drawn_data: Path, tmp_path: Path) -> None:
    config_file = tmp_path / "past.toml"
    config_file.write_text(
        f"""
        name = "past"
        data.annotations = "{drawn_data}/ground_truth.json"
        data.videos = "{drawn_data}/videos"
        data.cache = "{drawn_data}/cache"
        model = {{backbone = "mobilenet_v2", width_mult = 0.25, shift_direction = "past"}}
        clip = {{interval_seconds = 0.5, size = {SIZE}, num_frames = {NUM_FRAMES}}}
        train = {{epochs = 1, batch_size = 8, learning_rate = 0.01}}
        """
    )
    train(load_config(config_file), tmp_path / "run", device="cpu", show_progress=False)
    checkpoint = load_checkpoint(tmp_path / "run" / "last.safetensors")
    assert checkpoint.config.model.shift_direction == "past"
    trained, clips = checkpoint.model(), pictures(2)
    trained.backbone.double()
    outputs = stepped(OnlineTSM(trained), clips)[-1]
    assert distance(outputs[:2], Probabilities(trained)(clips)) < TOLERANCE
