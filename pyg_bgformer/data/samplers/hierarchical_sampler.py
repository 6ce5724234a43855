"""Batches from a few super-classes, whose classes are harder to distinguish than random ones."""

from collections.abc import Iterator

import numpy as np
from torch import Generator, Tensor

from pyg_bgformer.data.samplers.pk_sampler import PKSampler
from pyg_bgformer.data.samplers.planned_sampler import SAMPLERS, Deck, check_at_least_one
from pyg_bgformer.errors import InputError


@SAMPLERS.register("hierarchical")
class HierarchicalSampler(PKSampler):
    """A batch sampler that draws S super-classes, P / S different classes of each, and K images of each class.

    In an epoch the super-classes are dealt in shuffled order, again and again, so that all are used equally often,
    give or take one, whatever the number of their classes. The classes of a super-class and the images of a class
    are dealt in the same way. In everything else it is like :class:`PKSampler`.

    Args:
        labels: Class of each image, shape ``(N,)``, any integers.
        super_class_labels: Super-class of each image, shape ``(N,)``, the same for all images of a class.
        classes: P, the number of classes in a batch, a multiple of S.
        samples: K, the number of images of each class.
        super_classes: S, the number of super-classes in a batch.
        seed: A seed that, together with the number of the epoch, decides the batches.
        batches_per_epoch: Number of batches of an epoch. ``None`` takes ``max(1, N // (P * K))`` for N images.

    Yields:
        Batches of P * K pairs ``(position in labels, augmentation seed)``, the K of a class and the classes of a
        super-class consecutive.

    Raises:
        InputError: If a number is below 1, P is not a multiple of S, there are fewer than S super-classes, a
            super-class has fewer than P / S classes, or a class is in two super-classes.
    """

    def __init__(
        self,
        labels: np.ndarray | Tensor,
        *,
        super_class_labels: np.ndarray,
        classes: int = 20,
        samples: int = 5,
        super_classes: int,
        seed: int,
        batches_per_epoch: int | None = None,
    ) -> None:
        check_at_least_one(super_classes=super_classes)
        if classes % super_classes:
            raise InputError(
                f"sampler.classes is {classes} and sampler.super_classes is {super_classes}; expected a number of "
                "classes that can be divided among the super-classes"
            )
        self.super_classes = super_classes
        super().__init__(
            labels, classes=classes, samples=samples, seed=seed, batches_per_epoch=batches_per_epoch
        )
        self.classes_of = classes_of_super_classes(self.labels, super_class_labels)
        if super_classes > len(self.classes_of):
            raise InputError(
                f"sampler.super_classes is {super_classes}, but the training images have {len(self.classes_of)}; "
                "expected at most as many"
            )
        smallest, share = min(map(len, self.classes_of)), self.classes // super_classes
        if smallest < share:
            raise InputError(
                f"a batch takes {share} classes of a super-class, but the smallest has {smallest}; lower "
                "sampler.classes or raise sampler.super_classes"
            )

    def limit_classes(self, most: int) -> None:
        """Lowers P to a multiple of S that is at most a number of classes, and adds a note.

        Args:
            most: Number of classes that the images have.
        """
        super().limit_classes(max(most // self.super_classes, 1) * self.super_classes)

    def deal_classes(self, generator: Generator) -> Iterator[list[int]]:
        """Yields the classes of one batch after another, as indices into :attr:`members`."""
        kinds = Deck(len(self.classes_of), generator)
        decks = [Deck(len(classes), generator) for classes in self.classes_of]
        share = self.classes // self.super_classes
        while True:
            yield [
                self.classes_of[kind][item]
                for kind in kinds.deal(self.super_classes)
                for item in decks[kind].deal(share)
            ]


def classes_of_super_classes(labels: np.ndarray, super_class_labels: np.ndarray) -> list[list[int]]:
    """Returns the classes of each super-class, numbered from 0 in the order of their labels.

    Args:
        labels: Class of each image, shape ``(N,)``.
        super_class_labels: Super-class of each image, shape ``(N,)``.

    Raises:
        InputError: If a class is in two super-classes.
    """
    numbers = np.unique(labels, return_inverse=True)[1]
    kinds = np.unique(super_class_labels, return_inverse=True)[1]
    classes, kind_of = np.unique(np.stack([numbers, kinds]), axis=1)
    twice = classes[1:][classes[1:] == classes[:-1]]
    if twice.size:
        label = labels[numbers == twice[0]][0]
        raise InputError(f"class {label} is in more than one super-class; expected one for each class")
    return [classes[kind_of == kind].tolist() for kind in range(kinds.max() + 1)]
