import numpy as np
import pytest

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.data import RandomSampler
from pyg_bgformer.engine.setup import build_dataset, build_sampler
from pyg_bgformer.errors import InputError

LABELS = np.repeat([3, 5, 8], [4, 9, 6])


def positions(sampler, epoch=0):
    return [[position for position, _ in batch] for batch in sampler.plan(epoch)]


@pytest.mark.parametrize(("p", "k", "batches"), [(8, 1, 2), (2, 3, 3), (19, 1, 1)])
def test_an_epoch_shows_each_image_at_most_once_in_whole_batches(p, k, batches):
    sampler = RandomSampler(LABELS, p, k, seed=0)
    plan = positions(sampler)
    assert [len(batch) for batch in plan] == [p * k] * batches
    assert len(sampler) == batches
    shown = sum(map(len, plan))
    assert len({position for batch in plan for position in batch}) == shown


def test_every_image_is_as_likely_as_any_other():
    sampler = RandomSampler(LABELS, 5, 1, seed=0)
    times = np.zeros(len(LABELS))
    for epoch in range(600):
        for batch in positions(sampler, epoch):
            times[batch] += 1
    assert np.abs(times / 600 - 15 / 19).max() < 0.07


def test_plans_depend_on_seed_and_epoch_alone():
    one, other = (RandomSampler(LABELS, 4, 2, seed=seed) for seed in (0, 1))
    assert one.plan(3) == RandomSampler(LABELS, 4, 2, seed=0).plan(3)
    assert one.plan(3) != one.plan(4)
    assert one.plan(3) != other.plan(3)


def test_a_batch_larger_than_the_images_is_refused():
    with pytest.raises(InputError, match="a batch of 20 images, but there are 19"):
        RandomSampler(LABELS, 20, 1, seed=0)


def test_a_recipe_chooses_the_sampler():
    given = ["--sampler.name", "random", "--sampler.classes", "30", "--sampler.samples", "1"]
    config = read_config(given)
    sampler = build_sampler(config, build_dataset(config))
    assert type(sampler) is RandomSampler
    assert len(positions(sampler)[0]) == 30
    with pytest.raises(InputError, match="batches_per_epoch"):
        read_config([*given, "--sampler.batches_per_epoch", "3"])
