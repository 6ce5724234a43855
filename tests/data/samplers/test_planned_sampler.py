"""What holds for every sampler."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyg_bgformer.data import SAMPLERS, PlannedSampler, build_sampler, sampler_options
from pyg_bgformer.data.samplers.planned_sampler import Deck
from pyg_bgformer.errors import InputError
from tests.data.samplers.drawing import KINDS, LABELS, drawn, shuffled_labels

OPTIONS: dict[str, dict[str, Any]] = {
    "classes": {},
    "hierarchical": {"super_classes": 2},
    "chunks": {"redraw": True},
    "random": {},
}


def build(name: str, seed: int = 7, labels: Any = LABELS, **changes: Any) -> PlannedSampler:
    options = {"classes": 4, "samples": 3, **OPTIONS[name], **changes}
    return build_sampler(name, labels, super_class_labels=KINDS, seed=seed, **options)


def test_these_are_all_samplers():
    assert set(OPTIONS) == set(SAMPLERS)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_plan_depends_on_seed_and_epoch_alone(name):
    before = torch.random.get_rng_state()
    sampler = build(name)
    plans = [sampler.plan(epoch) for epoch in (2, 3, 2)]
    assert plans[0] == plans[2] == build(name).plan(2)
    assert plans[0] != plans[1]
    # Neighbouring runs must not share epochs, as they would with seed + epoch.
    assert plans[0] not in (build(name, seed=8).plan(1), build(name, seed=8).plan(2))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", OPTIONS)
def test_iterating_twice_gives_the_same_from_any_start(name):
    sampler = build(name)
    assert list(sampler) == list(sampler) == sampler.plan(0)
    for epoch in range(8):
        plan = sampler.plan(epoch)
        assert sampler.batches_in(epoch) == len(plan)
        for batch in (0, 1, len(plan)):
            sampler.start_at(epoch, batch)
            assert list(sampler) == list(sampler) == plan[batch:]
            assert len(sampler) == len(plan) - batch


@pytest.mark.parametrize("name", OPTIONS)
def test_one_pass_goes_through_several_epochs(name):
    sampler = build(name)
    sampler.start_at(1, 1, until=4)
    assert list(sampler) == sampler.plan(1)[1:] + sampler.plan(2) + sampler.plan(3)
    assert len(sampler) == len(list(sampler))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_start_beyond_the_end_of_an_epoch_is_refused(name):
    sampler = build(name)
    with pytest.raises(InputError, match=r"epoch 1 has \d+ batches and cannot start at batch 99"):
        sampler.start_at(1, 99)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_draw_has_its_own_augmentation_seed(name):
    seeds = [seed for batch in build(name) for _, seed in batch]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("name", OPTIONS)
def test_tensors_are_labels_too(name):
    assert build(name, labels=torch.from_numpy(LABELS)).plan(0) == build(name).plan(0)


@given(shuffled_labels(), st.integers(1, 9), st.integers(1, 6), st.integers(0, 3))
def test_batches_are_of_existing_images_and_of_one_size(labels, classes, samples, epoch):
    for name in ("classes", "chunks", "random"):
        options = {"classes": classes, "samples": samples, "seed": 0}
        if name == "random" and classes * samples > len(labels):
            continue
        sampler = SAMPLERS.find(name)(labels, **options)
        for batch in drawn(sampler, epoch):
            assert len(batch) == sampler.batch_size
            assert set(batch) <= set(range(len(labels)))


@pytest.mark.parametrize(
    ("name", "changes", "key"),
    [
        ("classes", {"classes": 0}, "classes"),
        ("random", {"samples": 0}, "samples"),
        ("hierarchical", {"super_classes": 0}, "super_classes"),
        ("classes", {"batches_per_epoch": 0}, "batches_per_epoch"),
    ],
)
def test_numbers_below_1_are_refused_by_their_key(name, changes, key):
    with pytest.raises(InputError, match=rf"^sampler\.{key} is 0; expected at least 1$"):
        build(name, **changes)


def test_options_are_the_keys_of_a_recipe():
    assert list(sampler_options("classes")) == ["classes", "samples", "batches_per_epoch"]
    assert list(sampler_options("chunks")) == ["classes", "samples", "redraw"]
    assert list(sampler_options("random")) == ["classes", "samples"]
    assert sampler_options("hierarchical")["super_classes"].type is int
    with pytest.raises(InputError, match="unknown sampler 'chunk'; did you mean 'chunks'"):
        sampler_options("chunk")


def test_a_sampler_of_super_classes_needs_super_classes():
    with pytest.raises(InputError, match="hierarchical needs super-classes, but the dataset has none"):
        build_sampler("hierarchical", LABELS, seed=0, super_classes=2)


@given(st.integers(1, 12), st.lists(st.integers(1, 15), max_size=12))
def test_a_deck_repeats_nothing_within_a_deal_and_uses_all_items_equally(size, counts):
    deck = Deck(size, torch.Generator().manual_seed(0))
    used = np.zeros(size, dtype=int)
    for count in counts:
        hand = deck.deal(count)
        assert len(hand) == count
        if count <= size:
            assert len(set(hand)) == count
            np.add.at(used, hand, 1)
            assert used.max() - used.min() <= 1
        else:
            assert set(hand) == set(range(size))
