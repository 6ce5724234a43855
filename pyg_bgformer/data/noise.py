"""Training images with wrong labels, or noise in place of the image: how much of it a method bears."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from pyg_bgformer.data.cache import ImageCache
from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.samples import ImageSamples

LABELS, IMAGES = 1, 2
"""Streams of random numbers: which labels are wrong says nothing of which images are noise."""


def mislabelled(dataset: ImageDataset, share: float, seed: int) -> ImageDataset:
    """Returns the dataset with wrong labels on a share of its training images.

    ``round(share * n)`` of the n training images are drawn, and for each of them one of the other training
    classes. With one seed, what is wrong at a smaller share is wrong, with the same label, at a larger one. All
    other images, and the column ``original_class``, stay as they are. A small class may lose all its images.

    Args:
        dataset: With its training classes numbered from 0.
        share: In [0, 1].
        seed: Decides which, and which label.
    """
    rows, classes = dataset.rows("train"), dataset.counts()["train"].classes
    generator = np.random.default_rng([seed, LABELS])
    order = generator.permutation(len(rows))
    shifts = generator.integers(1, classes, len(rows))
    chosen = order[: round(share * len(rows))]
    labels = dataset.table["label"].to_numpy().copy()
    labels[rows[chosen]] = (labels[rows[chosen]] + shifts[chosen]) % classes
    return dataset.with_table(dataset.table.assign(label=labels))


class NoisySamples(ImageSamples):
    """Training samples of which a share shows noise: pixels drawn independently and uniformly.

    ``round(share * n)`` of the n rows are drawn; with one seed, what is noise at a smaller share is the same noise
    at a larger one. It is drawn at the size that the encoder sees: a larger one, shrunk, would be plain grey.

    Args:
        dataset, rows, transform, cache: See :class:`ImageSamples`.
        share: In [0, 1].
        seed: Decides which, and their pixels.
        size: Side of the noise in pixels.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        rows: np.ndarray,
        transform: Callable[[Tensor], Any],
        cache: ImageCache | None = None,
        *,
        share: float,
        seed: int,
        size: int,
    ) -> None:
        super().__init__(dataset, rows, transform, cache)
        order = np.random.default_rng([seed, IMAGES]).permutation(self.rows)
        self.noisy_rows = frozenset(order[: round(share * len(order))].tolist())
        self.seed = seed
        self.size = size

    def image(self, row: int) -> Tensor:
        """Returns the image of a row before the transform, uint8 ``(3, height, width)``, or its noise."""
        if row not in self.noisy_rows:
            return super().image(row)
        seed = int(np.random.SeedSequence([self.seed, IMAGES, row]).generate_state(1, np.uint64)[0])
        generator = Generator().manual_seed(seed)
        return torch.randint(256, (3, self.size, self.size), dtype=torch.uint8, generator=generator)
