from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.data import ChunkSampler
from pyg_bgformer.engine.setup import build_dataset, build_sampler
from pyg_bgformer.errors import InputError

LABELS = np.repeat([3, 5, 8, 13, 21, 34, 55], [4, 9, 6, 2, 7, 12, 5])


def positions(plan):
    return [[position for position, _ in batch] for batch in plan]


def test_batches_hold_p_chunks_of_k_images_of_one_class():
    for batch in positions(ChunkSampler(LABELS, 4, 3, seed=0)):
        classes = LABELS[batch].reshape(4, 3)
        assert (classes == classes[:, :1]).all()


@pytest.mark.parametrize(("p", "k"), [(4, 3), (2, 5), (7, 1), (1, 4), (5, 20)])
def test_every_image_is_shown_and_classes_give_their_number_of_chunks(p, k):
    sampler = ChunkSampler(LABELS, p, k, seed=0)
    plan = positions(sampler.plan(0))
    chunks = [batch[i : i + k] for batch in plan for i in range(0, p * k, k)]
    sizes = Counter(LABELS.tolist())
    expected = {label: max(n, k) // k + 1 for label, n in sizes.items()}
    given = Counter(int(LABELS[chunk[0]]) for chunk in chunks)
    assert len(plan) == len(sampler) == -(-sum(expected.values()) // p)
    assert set().union(*plan) == set(range(len(LABELS)))
    assert all(given[label] >= count for label, count in expected.items())
    # chunks beyond these fill the last batch: others than each other
    assert len(chunks) - sum(expected.values()) == -sum(expected.values()) % p
    large = [tuple(chunk) for chunk in chunks if 3 <= k < sizes[int(LABELS[chunk[0]])]]
    assert all(times <= 2 for times in Counter(large).values())


def test_a_class_that_k_divides_gives_a_whole_further_chunk_without_repetition():
    plan = positions(ChunkSampler(np.zeros(8, dtype=int), 1, 4, seed=3).plan(0))
    assert len(plan) == 3
    assert all(len(set(chunk)) == 4 for chunk in plan)
    assert sorted(Counter(chain.from_iterable(plan)).values()) == [1] * 4 + [2] * 4


def test_a_class_smaller_than_k_is_topped_up():
    plan = positions(ChunkSampler(np.array([0, 0, 0, 1, 1, 1, 1, 1]), 2, 5, seed=0).plan(0))
    first = [batch[i : i + 5] for batch in plan for i in (0, 5) if batch[i] < 3]
    assert len(first) == 2
    assert {0, 1, 2} <= set(chain.from_iterable(first))
    assert Counter(first[0] + first[1]) == Counter({i: 2 * c for i, c in Counter(first[0]).items()})


def test_a_class_can_occur_twice_in_a_batch():
    sampler = ChunkSampler(LABELS, 7, 2, seed=0)
    assert any(len(set(LABELS[batch].tolist())) < 7 for batch in positions(sampler.plan(0)))


def test_redraw_takes_every_divisor_and_keeps_the_size_of_a_batch():
    sampler = ChunkSampler(np.repeat(np.arange(30), 6), 6, 9, seed=0, redraw=True)
    sizes = set()
    for epoch in range(60):
        sampler.set_epoch(epoch)
        plan = list(sampler)
        assert len(plan) == len(sampler) == sampler.batches_in(epoch)
        assert all(len(batch) == 54 for batch in plan)
        p, k = sampler._drawn_size(torch.Generator().manual_seed(epoch))
        sizes.add((p, k))
        lengths = {p: -(-30 * (max(6, 54 // p) // (54 // p) + 1) // p) for p in (2, 3, 6, 9, 18, 27)}
        assert len(plan) in lengths.values()
    assert sizes == {(2, 27), (3, 18), (6, 9), (9, 6), (18, 3), (27, 2)}


def test_plan_depends_on_seed_and_epoch_alone():
    for redraw in (False, True):
        sampler = ChunkSampler(LABELS, 4, 3, seed=7, redraw=redraw)
        sampler.set_epoch(2)
        before = torch.random.get_rng_state()
        second = list(sampler)
        assert torch.equal(before, torch.random.get_rng_state())
        sampler.set_epoch(3)
        assert second != list(sampler)
        assert second == ChunkSampler(LABELS, 4, 3, seed=7, redraw=redraw).plan(2)
        assert second != ChunkSampler(LABELS, 4, 3, seed=8, redraw=redraw).plan(2)


def test_every_draw_has_its_own_augmentation_seed():
    seeds = [seed for batch in ChunkSampler(LABELS, 4, 3, seed=0) for _, seed in batch]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("redraw", [False, True])
def test_state_continues_in_the_middle_of_an_epoch(redraw):
    sampler = ChunkSampler(LABELS, 4, 3, seed=5, redraw=redraw)
    for epoch in range(8):
        sampler.set_epoch(epoch)
        batches = iter(sampler)
        given = [next(batches) for _ in range(len(sampler) - 1)]
        resumed = ChunkSampler(LABELS, 4, 3, seed=0, redraw=redraw)
        resumed.load_state_dict(sampler.state_dict())
        assert given + list(resumed) == sampler.plan(epoch)


def test_a_state_is_checked_against_its_own_epoch():
    sampler = ChunkSampler(LABELS, 4, 3, seed=5, redraw=True)
    lengths = {}
    for epoch in range(12):
        sampler.set_epoch(epoch)
        lengths[epoch] = len(sampler)
    shortest, longest = min(lengths, key=lengths.get), max(lengths, key=lengths.get)
    assert lengths[shortest] < lengths[longest]
    sampler.set_epoch(shortest)
    sampler.load_state_dict({"seed": 5, "epoch": longest, "batch": lengths[longest]})
    with pytest.raises(InputError, match="sampler state at batch"):
        sampler.load_state_dict({"seed": 5, "epoch": shortest, "batch": lengths[longest]})


@pytest.mark.parametrize(
    ("p", "k", "redraw", "said"),
    [
        (8, 2, False, "there are 7 classes"),
        (2, 0, False, "samples_per_class"),
        (7, 1, True, "a batch of 7 images"),
        (7, 20, True, "35 chunks of 4 images"),
    ],
)
def test_impossible_numbers_are_refused(p, k, redraw, said):
    with pytest.raises(InputError, match=said):
        ChunkSampler(LABELS, p, k, seed=0, redraw=redraw)


def test_a_recipe_chooses_the_sampler():
    given = ["--sampler.name", "chunks", "--sampler.classes", "5", "--sampler.samples", "10"]
    config = read_config(given)
    sampler = build_sampler(config, build_dataset(config))
    assert isinstance(sampler, ChunkSampler)
    assert not isinstance(build_sampler(read_config(given[2:]), build_dataset(config)), ChunkSampler)
    assert all(len(batch) == 50 for batch in sampler)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--sampler.redraw", "true"], "sampler.redraw: found true with name classes"),
        (
            ["--sampler.name", "chunks", "--sampler.batches_per_epoch", "3"],
            "sampler.batches_per_epoch: found 3",
        ),
    ],
)
def test_options_of_the_other_sampler_are_refused(given, said):
    with pytest.raises(InputError, match=said):
        read_config(given)
