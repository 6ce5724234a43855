"""Training images with wrong labels or with noise instead of the image, to measure how robust a method is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from pyg_bgformer.data.cache import ImageCache
from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.samples import ImageSamples

LABELS, IMAGES = 1, 2
"""Two streams of random numbers, so that the choice of labels and the choice of images are independent."""


def mislabelled(dataset: ImageDataset, share: float, seed: int) -> ImageDataset:
    """Returns the dataset with wrong labels on a share of its training images.

    ``round(share * n)`` of the n training images are drawn, and for each of them one of the other training classes.
    With the same seed, a larger share has the wrong labels of a smaller share and more. The other images and the
    column ``original_class`` do not change. A small class may lose all its images.

    Args:
        dataset: A dataset whose training classes are numbered from 0.
        share: Share of the training images, in [0, 1].
        seed: Decides the images and their wrong labels.
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
    """Training samples of which a share are noise: their pixels are drawn independently and uniformly.

    ``round(share * n)`` of the n rows are drawn. With the same seed, a larger share has the noise images of a
    smaller share and more. Noise has the size that the encoder sees, because larger noise would become grey when
    resized.

    Args:
        dataset, rows, transform, cache: See :class:`ImageSamples`.
        share: Share of the rows, in [0, 1].
        seed: Decides the rows and their pixels.
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
