"""Batches from few super-classes, whose classes are harder to tell apart than any."""

from collections.abc import Iterator

import numpy as np
from torch import Generator, Tensor

from pyg_bgformer.data.samplers.pk_sampler import Deck, PKSampler
from pyg_bgformer.errors import InputError


class HierarchicalSampler(PKSampler):
    """Batch sampler that draws S super-classes, P / S distinct classes of each, and K images of each class.

    Within an epoch the super-classes are walked through in shuffled order, so that all are used equally often to
    within one, whatever the number of their classes; within a super-class its classes are walked through likewise,
    and within a class its images. For the rest it is as :class:`PKSampler`.

    Args:
        labels: Class of each image, shape ``(N,)``, any integers.
        super_classes: Super-class of each image, shape ``(N,)``, the same for all images of a class.
        classes_per_batch: P, a multiple of S.
        samples_per_class: K.
        super_classes_per_batch: S.
        seed: Decides every plan, together with the epoch.
        batches_per_epoch: Default ``max(1, N // (P * K))``.

    Yields:
        Batches of P * K pairs ``(position in labels, augmentation seed)``, the K of a class and the classes of a
        super-class consecutive.

    Raises:
        InputError: P is no multiple of S, there are fewer than S super-classes, one of them has fewer than P / S
            classes, a class is in two, or as for :class:`PKSampler`.
    """

    def __init__(
        self,
        labels: np.ndarray | Tensor,
        super_classes: np.ndarray,
        classes_per_batch: int,
        samples_per_class: int,
        *,
        super_classes_per_batch: int,
        seed: int,
        batches_per_epoch: int | None = None,
    ) -> None:
        super().__init__(
            labels, classes_per_batch, samples_per_class, seed=seed, batches_per_epoch=batches_per_epoch
        )
        self.super_classes_per_batch = super_classes_per_batch
        if super_classes_per_batch < 1 or classes_per_batch % super_classes_per_batch:
            raise InputError(
                f"classes_per_batch is {classes_per_batch}, super_classes_per_batch {super_classes_per_batch}; "
                "expected at least 1 super-class and a multiple of their number as classes"
            )
        self._classes_of = _nested(np.asarray(labels), super_classes)
        if super_classes_per_batch > len(self._classes_of):
            raise InputError(
                f"super_classes_per_batch is {super_classes_per_batch}, but there are {len(self._classes_of)} "
                "super-classes; expected at most as many"
            )
        smallest = min(map(len, self._classes_of))
        if smallest < (share := classes_per_batch // super_classes_per_batch):
            raise InputError(
                f"a batch takes {share} classes of a super-class, but the smallest has {smallest}; lower "
                "classes_per_batch or raise super_classes_per_batch"
            )

    def _classes(self, generator: Generator) -> Iterator[list[int]]:
        kinds = Deck(len(self._classes_of), generator)
        decks = [Deck(len(classes), generator) for classes in self._classes_of]
        share = self.classes_per_batch // self.super_classes_per_batch
        while True:
            yield [
                self._classes_of[kind][item]
                for kind in kinds.deal(self.super_classes_per_batch)
                for item in decks[kind].deal(share)
            ]


def _nested(labels: np.ndarray, super_classes: np.ndarray) -> list[list[int]]:
    """For each super-class its classes, numbered in the order of their labels."""
    numbers = np.unique(labels, return_inverse=True)[1]
    kinds = np.unique(super_classes, return_inverse=True)[1]
    classes, kind_of = np.unique(np.stack([numbers, kinds]), axis=1)
    twice = classes[1:][classes[1:] == classes[:-1]]
    if twice.size:
        label = labels[numbers == twice[0]][0]
        raise InputError(f"class {label} is in more than one super-class; expected one for each class")
    return [classes[kind_of == kind].tolist() for kind in range(kinds.max() + 1)]
