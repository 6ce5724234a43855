"""Batches of P distinct classes with K images each."""

from collections.abc import Iterator

import numpy as np
from torch import Generator, Tensor

from pyg_bgformer.data.samplers.planned_sampler import (
    SAMPLERS,
    Deck,
    Draw,
    PlannedSampler,
    check_at_least_one,
    epoch_generator,
    positions_by_class,
    with_seeds,
)


@SAMPLERS.register("classes")
class PKSampler(PlannedSampler):
    """A batch sampler that draws P different classes and K images of each class.

    In an epoch the classes are dealt in shuffled order, again and again, so that all are used equally often, give
    or take one. The images of a class are dealt in the same way. No image is twice in a batch, with one exception:
    a class of n < K images gives all n images, and K - n of them again, drawn with replacement. If the images have
    fewer than P classes, P becomes the number of their classes.

    Args:
        labels: Class of each image, shape ``(N,)``, any integers.
        classes: P, the number of classes in a batch.
        samples: K, the number of images of each class.
        seed: A seed that, together with the number of the epoch, decides the batches.
        batches_per_epoch: Number of batches of an epoch. ``None`` takes ``max(1, N // (P * K))`` for N images.

    Yields:
        Batches of P * K pairs ``(position in labels, augmentation seed)``, the K of a class consecutive.

    Raises:
        InputError: If a number is below 1.
    """

    def __init__(
        self,
        labels: np.ndarray | Tensor,
        *,
        classes: int = 20,
        samples: int = 5,
        seed: int,
        batches_per_epoch: int | None = None,
    ) -> None:
        super().__init__(labels, classes=classes, samples=samples, seed=seed)
        check_at_least_one(batches_per_epoch=batches_per_epoch)
        self.members = positions_by_class(self.labels)
        self.limit_classes(len(self.members))
        self.batches_per_epoch = batches_per_epoch or max(1, len(self.labels) // self.batch_size)

    def limit_classes(self, most: int) -> None:
        """Lowers P to at most a number of classes, and adds a note.

        Args:
            most: Number of classes that the images have.
        """
        if self.classes > most:
            self.notes.append(
                f"sampler.classes is {self.classes}, but the training images have {len(self.members)} classes: "
                f"a batch has {most} classes with {self.samples} images each"
            )
            self.classes = most

    def batches_in(self, epoch: int) -> int:
        """Returns the number of batches of an epoch."""
        del epoch  # all epochs are alike
        return self.batches_per_epoch

    def plan(self, epoch: int) -> list[list[Draw]]:
        """Returns all batches of an epoch."""
        generator = epoch_generator(self.seed, epoch)
        batches_of_classes = self.deal_classes(generator)
        images: dict[int, Deck] = {}
        batches = []
        for _ in range(self.batches_per_epoch):
            batch: list[int] = []
            for number in next(batches_of_classes):
                members = self.members[number]
                deck = images.setdefault(number, Deck(len(members), generator))
                batch += [members[item] for item in deck.deal(self.samples)]
            batches.append(with_seeds(batch, generator))
        return batches

    def deal_classes(self, generator: Generator) -> Iterator[list[int]]:
        """Yields the classes of one batch after another, as indices into :attr:`members`."""
        deck = Deck(len(self.members), generator)
        while True:
            yield deck.deal(self.classes)
