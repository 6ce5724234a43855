"""Batches of random images."""

import numpy as np
import torch
from torch import Tensor

from pyg_bgformer.data.samplers.pk_sampler import Draw, PKSampler, epoch_generator, with_seeds
from pyg_bgformer.errors import InputError


class RandomSampler(PKSampler):
    """Batch sampler that draws images whatever their class, as most proxy losses are trained.

    **An epoch** shows each image at most once: all are shuffled, and those that do not fill a last batch are left
    out. As in :class:`PKSampler`, its plan depends on ``(seed, epoch)`` alone.

    Args:
        labels: Class of each image, shape ``(N,)``; only their number counts.
        classes_per_batch, samples_per_class: Their product is the size of a batch.
        seed: Decides every plan, together with the epoch.

    Yields:
        Batches of pairs ``(position in labels, augmentation seed)``.

    Raises:
        InputError: A batch is larger than the number of images, or a number is below 1.
    """

    def __init__(
        self, labels: np.ndarray | Tensor, classes_per_batch: int, samples_per_class: int, *, seed: int
    ) -> None:
        super().__init__(labels, classes_per_batch, samples_per_class, seed=seed)
        self._images = len(labels)
        if (size := classes_per_batch * samples_per_class) > self._images:
            raise InputError(
                f"a batch of {size} images, but there are {self._images}; expected at most as many"
            )

    def plan(self, epoch: int) -> list[list[Draw]]:
        """All batches of an epoch; a pure function of the sampler's settings and the epoch."""
        generator = epoch_generator(self.seed, epoch)
        size = self.classes_per_batch * self.samples_per_class
        order = torch.randperm(self._images, generator=generator)[: self.batches_per_epoch * size]
        return [with_seeds(batch.tolist(), generator) for batch in order.split(size)]

    def _check_classes(self) -> None:
        """A batch may have more images than there are classes."""
