"""The images of some rows, augmented or prepared, as a torch dataset."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pyg_bgformer.data.batched import BatchedTransform
from pyg_bgformer.data.cache import ImageCache
from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.images import to_tensor

LARGEST_BATCHED = 64
"""Largest side in pixels of images that are augmented together."""


class ImageSamples(Dataset[tuple[Tensor, int, int]]):
    """Samples ``(image, label, row)`` of an :class:`ImageDataset`, for a ``DataLoader``.

    ``samples[(position, seed)]`` seeds torch's CPU generator, runs the transform, and restores the generator. So
    the result depends on the image and the seed alone, not on the worker process or on what was loaded before.
    ``samples[position]`` only runs the transform. It is meant for transforms without randomness.

    Args:
        dataset: The source of images and labels.
        rows: Rows of the dataset, for example ``dataset.rows("train")``. A position counts within them.
        transform: A function from uint8 ``(3, height, width)`` to float32 ``(3, image_size, image_size)``, or to a
            :class:`~pyg_bgformer.data.cuts.Cut`.
        cache: Decoded images, which are read instead of the files.

    Attributes:
        labels (numpy.ndarray): Label of each position, int64, as samplers take them.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        rows: np.ndarray,
        transform: Callable[[Tensor], Any],
        cache: ImageCache | None = None,
    ) -> None:
        self.dataset = dataset
        self.rows = np.asarray(rows, dtype=np.int64)
        self.transform = transform
        self.cache = cache
        self.labels = dataset.table["label"].to_numpy()[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[Tensor, int, int]:
        position, seed = index if isinstance(index, tuple) else (index, None)
        row = int(self.rows[position])
        image = self.image(row)
        prepared = self.transform(image) if seed is None else _seeded(self.transform, image, seed)
        return prepared, int(self.labels[position]), row

    def __getitems__(self, indices: Sequence[int | tuple[int, int]]) -> list[tuple[Tensor, int, int]]:
        """Returns the samples of a batch, the same as one by one. A ``DataLoader`` calls this method.

        Small images are augmented together, which is faster. With large images the pixels take the time.
        """
        transform, draws = self.transform, [index for index in indices if isinstance(index, tuple)]
        seeded = len(draws) == len(indices)
        if seeded and isinstance(transform, BatchedTransform) and transform.crop.size[0] <= LARGEST_BATCHED:
            positions, seeds = [position for position, _ in draws], [seed for _, seed in draws]
            rows = self.rows[positions].tolist()
            prepared = transform.batch([self.image(row) for row in rows], seeds)
            return list(zip(prepared, self.labels[positions].tolist(), rows, strict=True))
        return [self[index] for index in indices]

    def image(self, row: int) -> Tensor:
        """Returns the image of a row before the transform, uint8 ``(3, height, width)``."""
        return to_tensor(self.dataset.image(row)) if self.cache is None else self.cache[row]


def _seeded(transform: Callable[[Tensor], Any], image: Tensor, seed: int) -> Any:
    # torch.manual_seed would also seed accelerators, which fork_rng(devices=[]) does not restore.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return transform(image)
