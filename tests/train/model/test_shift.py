import math

import pytest
import torch
from torch import nn

from tsm_train.model.shift import ShiftedConv2d, temporal_shift


def shifted_by_definition(x, num_frames, fold_div, direction):
    """The definition in loops: out[t, n, c] = in[t + 1, n, c], in[t - 1, n, c] or in[t, n, c]."""
    fold = x.shape[1] // fold_div
    out = torch.zeros_like(x)
    clips = x.shape[0] // num_frames
    for n in range(clips):
        for t in range(num_frames):
            for c in range(x.shape[1]):
                if direction == "both":
                    source = t + 1 if c < fold else t - 1 if c < 2 * fold else t
                else:
                    source = t - 1 if c < fold else t
                if 0 <= source < num_frames:
                    out[t * clips + n, c] = x[source * clips + n, c]
    return out


DIRECTIONS = ["both", "past"]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("clips", "num_frames", "channels", "fold_div"),
    [
        (3, 8, 16, 8),
        (3, 4, 19, 8),  # not divisible: the remainder stays
        (2, 1, 16, 8),  # a clip of one frame sees zeros on both sides
        (1, 2, 8, 8),
        (2, 3, 7, 8),  # too few channels for a group: nothing moves
        (2, 3, 9, 3),
        (2, 3, 6, 2),  # every channel moves
    ],
)
def test_equals_its_definition(clips, num_frames, channels, fold_div, memory_format, direction):
    x = torch.randn(clips * num_frames, channels, 3, 2).contiguous(memory_format=memory_format)
    shifted = temporal_shift(x, num_frames, fold_div, direction)
    assert shifted.shape == x.shape
    assert torch.equal(shifted, shifted_by_definition(x, num_frames, fold_div, direction))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_keeps_the_memory_format(memory_format):
    x = torch.randn(16, 16, 3, 5).contiguous(memory_format=memory_format)
    assert temporal_shift(x, 8).is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("poison", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_nothing_leaks_into_the_neighbouring_clips(poison, memory_format, direction):
    x = torch.randn(4 * 3, 16, 2, 3)
    x[1::3] = poison  # the second of three clips
    shifted = temporal_shift(x.contiguous(memory_format=memory_format), 4, direction=direction)
    assert shifted[0::3].isfinite().all()
    assert shifted[2::3].isfinite().all()
    assert not shifted[1::3].isfinite().all()


def test_nothing_of_the_past_depends_on_the_future():
    x = torch.randn(8, 16, 2, 2)
    changed = x.clone()
    changed[5:] = math.nan
    assert torch.equal(
        temporal_shift(changed, 8, direction="past")[:5], temporal_shift(x, 8, direction="past")[:5]
    )
    assert not temporal_shift(changed, 8)[:5].isfinite().all()


def test_a_clip_gives_the_same_alone_and_in_a_batch():
    x = torch.randn(8 * 3, 16, 2, 2)
    assert torch.equal(temporal_shift(x, 8)[1::3], temporal_shift(x[1::3], 8))


def test_gradient_goes_back_where_the_value_came_from():
    x = torch.randn(6, 8, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: temporal_shift(value, 3), x)


def test_refuses_a_broken_number_of_frames():
    with pytest.raises(ValueError, match=r"expected a multiple of 8 frames \(T\*N\), got 12"):
        temporal_shift(torch.zeros(12, 16, 2, 2), 8)


def test_refuses_a_fold_div_without_two_groups():
    with pytest.raises(ValueError, match=r"fold_div must be at least 2 .* got 1"):
        temporal_shift(torch.zeros(8, 16, 2, 2), 8, fold_div=1)
    with pytest.raises(ValueError, match="got 0"):
        ShiftedConv2d.from_conv(nn.Conv2d(8, 8, 1), num_frames=8, fold_div=0)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_shifted_conv_shifts_then_convolves(direction):
    conv = nn.Conv2d(16, 6, 1)
    shifted = ShiftedConv2d.from_conv(conv, num_frames=4, direction=direction)
    x = torch.randn(8, 16, 3, 3)
    assert torch.equal(shifted(x), conv(temporal_shift(x, 4, 8, direction)))
    assert f"direction={direction}" in repr(shifted)


def test_refuses_an_unknown_direction():
    with pytest.raises(ValueError, match=r"expected one of \('both', 'past'\), got 'future'"):
        temporal_shift(torch.zeros(8, 16, 2, 2), 8, direction="future")
    with pytest.raises(ValueError, match="got 'future'"):
        ShiftedConv2d.from_conv(nn.Conv2d(8, 8, 1), num_frames=8, direction="future")


def test_shifted_conv_shares_parameters_and_keys():
    conv = nn.Conv2d(16, 6, 1, bias=False).eval()
    shifted = ShiftedConv2d.from_conv(conv, num_frames=4, fold_div=4)
    assert shifted.weight is conv.weight
    assert list(shifted.state_dict()) == list(conv.state_dict()) == ["weight"]
    assert (shifted.num_frames, shifted.fold_div, shifted.training) == (4, 4, False)
    assert "num_frames=4, fold_div=4" in repr(shifted)


def test_shifted_conv_keeps_every_setting():
    conv = nn.Conv2d(8, 4, 3, stride=2, padding=1, dilation=2, groups=2, padding_mode="reflect")
    x = torch.randn(2, 8, 9, 9)
    shifted = ShiftedConv2d.from_conv(conv, num_frames=1, fold_div=16)  # 8 // 16: no channel moves
    assert torch.equal(shifted(x), conv(x))


def test_only_a_plain_convolution_is_shifted():
    class Padded(nn.Conv2d):
        pass

    with pytest.raises(TypeError, match=r"plain torch\.nn\.Conv2d .* got Padded"):
        ShiftedConv2d.from_conv(Padded(8, 8, 1), num_frames=8)
    shifted = ShiftedConv2d.from_conv(nn.Conv2d(8, 8, 1), num_frames=8)
    with pytest.raises(TypeError, match="got ShiftedConv2d"):
        ShiftedConv2d.from_conv(shifted, num_frames=8)
