from collections import Counter

import numpy as np
import pytest
import torch

from pyg_bgformer.data import PKSampler
from pyg_bgformer.errors import InputError

LABELS = np.repeat([3, 5, 8, 13, 21, 34, 55], [4, 9, 6, 2, 7, 12, 5])


def test_batches_hold_p_distinct_classes_with_k_images_each():
    for batch in PKSampler(LABELS, 3, 4, seed=0, batches_per_epoch=40):
        classes = LABELS[[position for position, _ in batch]].reshape(3, 4)
        assert (classes == classes[:, :1]).all()
        assert len(set(classes[:, 0])) == 3


def test_classes_are_used_equally_often_to_within_one():
    for batches in range(1, 30):
        sampler = PKSampler(LABELS, 3, 2, seed=1, batches_per_epoch=batches)
        used = Counter(LABELS[batch[k][0]] for batch in sampler for k in (0, 2, 4))
        assert max(used.values()) - min(used[label] for label in set(LABELS)) <= 1


def test_images_of_a_class_are_used_equally_often_to_within_one_and_once_in_a_batch():
    used: Counter[int] = Counter()
    for batch in PKSampler(LABELS, 7, 2, seed=2, batches_per_epoch=50):
        positions = [position for position, _ in batch]
        assert len(set(positions)) == len(positions)
        used.update(positions)
        for label in set(LABELS):
            counts = [used[position] for position in np.flatnonzero(label == LABELS)]
            assert max(counts) - min(counts) <= 1


def test_a_class_smaller_than_k_gives_all_its_images_in_every_batch():
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1])
    for batch in PKSampler(labels, 2, 5, seed=0, batches_per_epoch=20):
        drawn = [position for position, _ in batch if labels[position] == 0]
        assert len(drawn) == 5
        assert set(drawn) == {0, 1, 2}


def test_every_draw_has_its_own_augmentation_seed():
    seeds = [seed for batch in PKSampler(LABELS, 3, 4, seed=0, batches_per_epoch=50) for _, seed in batch]
    assert len(set(seeds)) == len(seeds)


def test_plan_depends_on_seed_and_epoch_alone():
    sampler = PKSampler(LABELS, 3, 4, seed=7)
    sampler.set_epoch(2)
    before = torch.random.get_rng_state()
    second = list(sampler)
    assert torch.equal(before, torch.random.get_rng_state())
    sampler.set_epoch(3)
    third = list(sampler)
    sampler.set_epoch(2)
    assert list(sampler) == second == PKSampler(LABELS, 3, 4, seed=7).plan(2)
    assert second != third
    assert PKSampler(LABELS, 3, 4, seed=8).plan(2) != second
    # neighbouring runs must not share epochs
    assert PKSampler(LABELS, 3, 4, seed=8).plan(1) != second


def test_an_iteration_can_be_repeated():
    sampler = PKSampler(LABELS, 3, 2, seed=0)
    assert list(sampler) == list(sampler)


def test_default_length_is_what_the_images_fill():
    assert len(PKSampler(LABELS, 3, 4, seed=0)) == 45 // 12
    assert len(PKSampler(LABELS, 7, 40, seed=0)) == 1


def test_state_continues_in_the_middle_of_an_epoch():
    sampler = PKSampler(LABELS, 3, 2, seed=5)
    sampler.set_epoch(4)
    batches = iter(sampler)
    given = [next(batches) for _ in range(3)]
    resumed = PKSampler(LABELS, 3, 2, seed=0)
    resumed.load_state_dict(sampler.state_dict())
    resumed.set_epoch(4)
    assert given + list(resumed) == sampler.plan(4)
    resumed.set_epoch(5)
    assert list(resumed) == sampler.plan(5)


def test_state_of_a_finished_epoch_has_nothing_left():
    sampler = PKSampler(LABELS, 3, 2, seed=5)
    list(sampler)
    resumed = PKSampler(LABELS, 3, 2, seed=5)
    resumed.load_state_dict(sampler.state_dict())
    assert list(resumed) == []


def test_state_takes_the_number_of_used_batches_where_a_loader_fetches_ahead():
    sampler = PKSampler(LABELS, 3, 2, seed=5)
    list(sampler)
    resumed = PKSampler(LABELS, 3, 2, seed=5)
    resumed.load_state_dict(sampler.state_dict(batch=2))
    assert list(resumed) == sampler.plan(0)[2:]


def test_state_of_another_run_is_refused():
    with pytest.raises(InputError, match="batch 99"):
        PKSampler(LABELS, 3, 4, seed=0).load_state_dict({"seed": 0, "epoch": 0, "batch": 99})


def test_tensors_are_labels_too():
    plans = [PKSampler(labels, 3, 4, seed=0).plan(0) for labels in (LABELS, torch.from_numpy(LABELS))]
    assert plans[0] == plans[1]


@pytest.mark.parametrize(
    ("p", "k", "batches", "said"),
    [
        (8, 2, None, "there are 7 classes"),
        (0, 2, None, "classes_per_batch"),
        (2, 0, None, "samples_per_class"),
        (2, 2, 0, "batches_per_epoch"),
    ],
)
def test_impossible_numbers_are_refused(p: int, k: int, batches: int | None, said: str):
    with pytest.raises(InputError, match=said):
        PKSampler(LABELS, p, k, seed=0, batches_per_epoch=batches)
