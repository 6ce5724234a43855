"""Batches of random images."""

import numpy as np
from torch import Tensor

from pyg_bgformer.data.samplers.planned_sampler import (
    SAMPLERS,
    Draw,
    PlannedSampler,
    epoch_generator,
    shuffled,
    with_seeds,
)
from pyg_bgformer.errors import InputError


@SAMPLERS.register("random")
class RandomSampler(PlannedSampler):
    """A batch sampler that draws images of any class. Most proxy losses are trained with such batches.

    An epoch shows each image at most once. All images are shuffled, and those that do not fill a last batch are
    left out.

    Args:
        labels: Class of each image, shape ``(N,)``. Only their number matters.
        classes: P. A batch has P * K images.
        samples: K. A batch has P * K images.
        seed: A seed that, together with the number of the epoch, decides the batches.

    Yields:
        Batches of P * K pairs ``(position in labels, augmentation seed)``.

    Raises:
        InputError: If a batch is larger than the number of images, or a number is below 1.
    """

    def __init__(
        self, labels: np.ndarray | Tensor, *, classes: int = 20, samples: int = 5, seed: int
    ) -> None:
        super().__init__(labels, classes=classes, samples=samples, seed=seed)
        if self.batch_size > len(self.labels):
            raise InputError(
                f"sampler: a batch has {classes} x {samples} images, but there are {len(self.labels)}; "
                "lower sampler.classes or sampler.samples"
            )

    def batches_in(self, epoch: int) -> int:
        """Returns the number of batches of an epoch."""
        del epoch  # all epochs are alike
        return len(self.labels) // self.batch_size

    def plan(self, epoch: int) -> list[list[Draw]]:
        """Returns all batches of an epoch."""
        generator = epoch_generator(self.seed, epoch)
        order = shuffled(len(self.labels), generator)
        starts = range(0, self.batches_in(epoch) * self.batch_size, self.batch_size)
        return [with_seeds(order[start : start + self.batch_size], generator) for start in starts]
