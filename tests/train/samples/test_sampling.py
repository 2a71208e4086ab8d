from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tsm_runtime.results import BACKGROUND
from tsm_train.samples.sampling import EpochSampler, balanced_counts
from tsm_train.sections.training import TrainConfig

MIXED = ["walk"] * 60 + ["wave"] * 6 + [BACKGROUND] * 200


def epoch_of(sampler: EpochSampler, epoch: int = 0) -> list[int]:
    sampler.set_epoch(epoch)
    items = list(sampler)
    assert {e for e, _ in items} == {epoch}
    assert len(items) == len(sampler)
    return [index for _, index in items]


def shown(sampler: EpochSampler, classes: list[str], epoch: int = 0) -> Counter[str]:
    return Counter(classes[index] for index in epoch_of(sampler, epoch))


def test_goes_through_all_once_per_epoch() -> None:
    sampler = EpochSampler(["a"] * 50, TrainConfig(seed=3, batch_size=5))
    epochs = [epoch_of(sampler, epoch) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epoch_of(sampler, 1) == epochs[1]
    assert epochs[0] != epochs[1] != epochs[2]
    assert epoch_of(EpochSampler(["a"] * 50, TrainConfig(seed=3, batch_size=5)), 2) == epochs[2]
    assert epoch_of(EpochSampler(["a"] * 50, TrainConfig(seed=4, batch_size=5))) != epochs[0]


def test_the_order_is_that_of_earlier_versions() -> None:
    """Stored results were trained in this order."""
    expected = np.random.default_rng((3, 7)).permutation(48).tolist()
    assert epoch_of(EpochSampler(["a"] * 48, TrainConfig(seed=3)), 7) == expected


def test_a_short_last_batch_is_left_out_but_a_single_short_one_is_not() -> None:
    assert len(EpochSampler(["a"] * 50, TrainConfig(batch_size=16))) == 48
    assert len(EpochSampler(["a"] * 5, TrainConfig(batch_size=16))) == 5


@given(count=st.integers(1, 70), batch=st.sampled_from([4, 8, 12]), world=st.sampled_from([2, 4]))
def test_processes_share_each_batch_of_one_process(count: int, batch: int, world: int) -> None:
    settings = TrainConfig(batch_size=batch)
    alone = epoch_of(EpochSampler(["a"] * count, settings), 1)
    parts = [
        epoch_of(EpochSampler(["a"] * count, settings, rank=rank, world_size=world), 1)
        for rank in range(world)
    ]
    assert len({len(part) for part in parts}) == 1
    if count >= batch:
        share = batch // world
        for start in range(0, len(alone), batch):
            step = start // batch * share
            together = sorted(index for part in parts for index in part[step : step + share])
            assert together == sorted(alone[start : start + batch])
    else:
        assert set(alone) == {index for part in parts for index in part}


def test_background_is_capped_and_changes_from_epoch_to_epoch() -> None:
    sampler = EpochSampler(MIXED, TrainConfig(batch_size=1, background_ratio=0.5))
    assert shown(sampler, MIXED) == {"walk": 60, "wave": 6, BACKGROUND: 33}
    first, second = (set(epoch_of(sampler, epoch)) for epoch in (0, 1))
    assert first != second
    assert set(range(66)) <= first & second
    plenty = EpochSampler(MIXED, TrainConfig(batch_size=1, background_ratio=10.0))
    assert shown(plenty, MIXED)[BACKGROUND] == 200


def test_classes_are_balanced() -> None:
    settings = TrainConfig(batch_size=1, background_ratio=1.0, class_balance=1.0)
    counts = shown(EpochSampler(MIXED, settings), MIXED)
    assert sum(counts.values()) == 132
    assert all(abs(count - 44) <= 1 for count in counts.values())
    half = shown(EpochSampler(MIXED, TrainConfig(batch_size=1, class_balance=0.5)), MIXED)
    roots = {"walk": 60**0.5, "wave": 6**0.5, BACKGROUND: 200**0.5}
    for name, root in roots.items():
        assert abs(half[name] - 266 * root / sum(roots.values())) <= 1


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    balance=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_every_sample_is_drawn_as_often_as_expected_to_within_one(
    sizes: list[int], balance: float, seed: int
) -> None:
    classes = np.repeat(np.arange(len(sizes)), sizes)
    counts = balanced_counts(classes, balance, np.random.default_rng(seed))
    assert counts.sum() == len(classes)
    total = sum(size ** (1 - balance) for size in sizes)
    for number, size in enumerate(sizes):
        expected = len(classes) * size ** (1 - balance) / total
        drawn = counts[classes == number]
        assert abs(drawn.sum() - expected) <= 1 + 1e-6
        assert np.all(np.abs(drawn - expected / size) < 1 + 1e-6)
