from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pyg_bgformer.data import (
    ImageCache,
    ImageSamples,
    PKSampler,
    eval_transform,
    load_dataset,
    train_transform,
)
from pyg_bgformer.data.images import to_tensor

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
Tree = Callable[[Mapping[str, int]], Path]


def test_what_a_sample_is(make_tree: Tree):
    dataset = load_dataset("folder", make_tree({"a": 2, "b": 3, "c": 2, "d": 4}))
    rows = dataset.rows("test")[::-1]
    samples = ImageSamples(dataset, rows, eval_transform(8, resize=9, **HALF))
    assert len(samples) == 6
    assert samples.labels.tolist() == [3, 3, 3, 3, 2, 2]
    for position, expected in enumerate(rows):
        image, label, row = samples[position]
        assert (label, row) == (dataset.table["label"][expected], expected)
        assert torch.equal(image, eval_transform(8, resize=9, **HALF)(to_tensor(dataset.image(expected))))


def test_augmentation_depends_on_the_seed_alone():
    dataset = load_dataset("digits")
    samples = ImageSamples(dataset, dataset.rows("train"), train_transform(8, **HALF))
    before = torch.random.get_rng_state()
    first = samples[(5, 17)][0]
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(3)
    samples[(9, 3)]
    assert torch.equal(samples[(5, 17)][0], first)
    assert not torch.equal(samples[(5, 18)][0], first)


@pytest.mark.parametrize("workers", [1, 2])
def test_loaded_batches_do_not_depend_on_the_number_of_workers(workers: int):
    dataset = load_dataset("digits")
    samples = ImageSamples(dataset, dataset.rows("train"), train_transform(8, **HALF))
    sampler = PKSampler(samples.labels, classes=4, samples=3, seed=1, batches_per_epoch=4)
    here = list(DataLoader(samples, batch_sampler=sampler))
    there = list(DataLoader(samples, batch_sampler=sampler, num_workers=workers))
    for (images, labels, rows), others in zip(here, there, strict=True):
        assert images.shape == (12, 3, 8, 8)
        assert labels.tolist() == dataset.table["label"].to_numpy()[rows].tolist()
        assert all(torch.equal(*pair) for pair in zip((images, labels, rows), others, strict=True))


def test_evaluation_is_the_same_with_a_cache(make_tree: Tree, tmp_path: Path):
    dataset = load_dataset("folder", make_tree({"a": 2, "b": 3, "c": 2, "d": 4}))
    cache = ImageCache.open_or_build(dataset, 9, tmp_path, workers=0)
    rows, transform = np.arange(len(dataset)), eval_transform(8, resize=9, **HALF)
    plain, cached = ImageSamples(dataset, rows, transform), ImageSamples(dataset, rows, transform, cache)
    for position in rows:
        assert torch.equal(plain[int(position)][0], cached[int(position)][0])
