"""The batched transform gives, bit for bit, what torchvision's steps give for each image alone."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode, v2

from pyg_bgformer.data import ImageSamples, PKSampler, load_dataset, samples, train_transform
from pyg_bgformer.data.batched import BatchedTransform

PLAIN = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}


def noise(height: int, width: int, number: int) -> Tensor:
    generator = torch.Generator().manual_seed(number)
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator).permute(2, 0, 1)


def alone(transform: v2.Compose, image: Tensor, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transform(image)


@pytest.mark.parametrize(
    ("image_size", "sides", "options"),
    [
        (16, [(8, 8)], {"flip": False, "crop_scale": (0.7, 1.0)}),
        (28, [(105, 105)], {}),
        (28, [(28, 28)], {"random_erasing": 1.0}),
        (32, [(40, 60), (60, 40), (8, 9), (1, 30)], {"random_erasing": 0.5, "crop_scale": (0.05, 0.4)}),
        (24, [(24, 24), (200, 31)], {"crop_ratio": (1.0, 1.0), "crop_scale": (1.0, 1.0)}),
    ],
)
def test_equal_to_each_image_alone(image_size: int, sides: Sequence[tuple[int, int]], options: dict):
    transform = train_transform(image_size, **PLAIN, **options)
    seeds = [2**61 + 7 * number for number in range(40)]
    images = [noise(*sides[number % len(sides)], number) for number in range(40)]
    together = transform.batch(images, seeds)
    expected = torch.stack([alone(transform, *pair) for pair in zip(images, seeds, strict=True)])
    assert together.shape == (40, 3, image_size, image_size)
    assert torch.equal(together, expected)


def test_the_steps_are_those_of_torchvision():
    transform = train_transform(20, random_erasing=0.5, **PLAIN)
    reference = v2.Compose(
        [
            v2.RandomResizedCrop(20, (0.2, 1.0), interpolation=InterpolationMode.BICUBIC),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(PLAIN["mean"], PLAIN["std"]),
            v2.RandomErasing(0.5, scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3)),
        ]
    )
    images = [noise(33, 47, number) for number in range(30)]
    expected = torch.stack([alone(reference, image, number) for number, image in enumerate(images)])
    assert torch.equal(transform.batch(images, range(30)), expected)


def test_the_global_generator_stays_where_it_is():
    before = torch.random.get_rng_state()
    train_transform(8, random_erasing=0.5, **PLAIN).batch([noise(9, 9, 0)], [3])
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_loader_gives_the_same_with_and_without_batches(monkeypatch: pytest.MonkeyPatch):
    dataset = load_dataset("digits")
    digits = ImageSamples(dataset, dataset.rows("train"), train_transform(16, random_erasing=0.5, **PLAIN))
    sampler = PKSampler(digits.labels, classes=4, samples=3, seed=1, batches_per_epoch=3)
    calls = []
    batch = BatchedTransform.batch
    monkeypatch.setattr(
        BatchedTransform, "batch", lambda self, *args: calls.append(args) or batch(self, *args)
    )
    together = list(DataLoader(digits, batch_sampler=sampler))
    assert len(calls) == 3
    monkeypatch.setattr(samples, "LARGEST_BATCHED", 0)
    one_by_one = list(DataLoader(digits, batch_sampler=sampler))
    assert len(calls) == 3
    for batches in zip(together, one_by_one, strict=True):
        assert all(torch.equal(*pair) for pair in zip(*batches, strict=True))


def test_samples_without_a_seed_are_given_one_by_one():
    dataset = load_dataset("digits")
    digits = ImageSamples(dataset, np.arange(10), train_transform(16, **PLAIN))
    assert [row for _, _, row in digits.__getitems__([3, 7])] == [3, 7]
