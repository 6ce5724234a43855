"""The base of all samplers: the seed and the number of an epoch decide all batches of the epoch."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Sampler

from pyg_bgformer.errors import InputError
from pyg_bgformer.registry import Registry

Draw = tuple[int, int]
"""A sample to load: its position in the labels, and the seed of its augmentation."""


class PlannedSampler(Sampler[list[Draw]], ABC):
    """A batch sampler whose plan of an epoch depends only on its settings, the seed and the number of the epoch.

    An epoch does not depend on earlier ones, so it can be repeated, or started at any of its batches. Each
    iteration gives the same batches until :meth:`start_at` chooses others.

    Args:
        labels: Class of each image, shape ``(N,)``, any integers.
        classes: P, the number of classes in a batch.
        samples: K, the number of images of each class.
        seed: A seed that, together with the number of the epoch, decides the batches.

    Attributes:
        classes (int): P. It is smaller than the argument if the images have fewer classes.
        samples (int): K.
        notes (list[str]): One line for each setting that was adapted to the images.

    Raises:
        InputError: If ``classes`` or ``samples`` is below 1.
    """

    def __init__(self, labels: np.ndarray | Tensor, *, classes: int, samples: int, seed: int) -> None:
        check_at_least_one(classes=classes, samples=samples)
        self.labels = np.asarray(labels)
        self.classes = classes
        self.samples = samples
        self.seed = seed
        self.epoch = 0
        self.first_batch = 0
        self.until = 1
        self.notes: list[str] = []

    @property
    def batch_size(self) -> int:
        """Returns the number of images in a batch, P * K."""
        return self.classes * self.samples

    @abstractmethod
    def batches_in(self, epoch: int) -> int:
        """Returns the number of batches of an epoch."""

    @abstractmethod
    def plan(self, epoch: int) -> list[list[Draw]]:
        """Returns all batches of an epoch."""

    def start_at(self, epoch: int, batch: int = 0, until: int | None = None) -> None:
        """Chooses the batches of all further iterations: those of an epoch, from one of its batches on.

        With ``until`` they continue with the following epochs, so one pass of a loader can be a whole training. The
        workers then load the first batches of an epoch while the last batches of the previous epoch are trained on.

        Args:
            epoch: Number of the epoch, from 0.
            batch: Number of the first batch, from 0 to the number of batches of the epoch, which leaves none.
            until: Number of the epoch before which iterations stop. By default it is ``epoch + 1``.

        Raises:
            InputError: If the epoch has fewer batches.
        """
        if not 0 <= batch <= (there := self.batches_in(epoch)):
            raise InputError(
                f"epoch {epoch} has {there} batches and cannot start at batch {batch}; "
                "the run was started with another batch size or dataset"
            )
        self.epoch, self.first_batch = epoch, batch
        self.until = epoch + 1 if until is None else until

    def __len__(self) -> int:
        return sum(self.batches_in(epoch) for epoch in range(self.epoch, self.until)) - self.first_batch

    def __iter__(self) -> Iterator[list[Draw]]:
        later = (batch for epoch in range(self.epoch + 1, self.until) for batch in self.plan(epoch))
        return chain(self.plan(self.epoch)[self.first_batch :], later)


SAMPLERS: Registry[type[PlannedSampler]] = Registry("sampler")
"""Samplers by name."""


class Deck:
    """Deals the items 0..size-1 in shuffled order, again and again. A deal has no item twice if there are enough.

    Args:
        size: Number of items.
        generator: Source of the shuffles.
    """

    def __init__(self, size: int, generator: Generator) -> None:
        self.size = size
        self.generator = generator
        self.left: list[int] = []

    def deal(self, count: int) -> list[int]:
        """Returns the next ``count`` items. With more than ``size`` these are all items, and others twice."""
        if count > self.size:
            extra = torch.randint(self.size, (count - self.size,), generator=self.generator)
            return shuffled(self.size, self.generator) + extra.tolist()
        hand, self.left = self.left[:count], self.left[count:]
        if len(hand) < count:
            # The rest comes from a new shuffle, in which the items that are already dealt move to the end.
            fresh = shuffled(self.size, self.generator)
            ordered = [item for item in fresh if item not in hand] + [item for item in fresh if item in hand]
            missing = count - len(hand)
            hand, self.left = hand + ordered[:missing], ordered[missing:]
        return hand


def shuffled(size: int, generator: Generator) -> list[int]:
    """Returns the numbers 0..size-1 in random order."""
    order: list[int] = torch.randperm(size, generator=generator).tolist()
    return order


def positions_by_class(labels: np.ndarray) -> list[list[int]]:
    """Returns the positions of the images of each class. The classes are in the order of their labels."""
    sizes = np.unique(labels, return_counts=True)[1]
    ordered = np.argsort(labels, kind="stable")
    return [positions.tolist() for positions in np.split(ordered, np.cumsum(sizes)[:-1])]


def epoch_generator(seed: int, epoch: int) -> Generator:
    """Returns the generator of an epoch. Seeded by ``seed + epoch``, runs of different seeds would share epochs."""
    mixed = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    return Generator().manual_seed(int(mixed))


def with_seeds(positions: list[int], generator: Generator) -> list[Draw]:
    """Returns a batch: each position with a random seed for its augmentation."""
    seeds = torch.randint(2**62, (len(positions),), generator=generator).tolist()
    return list(zip(positions, seeds, strict=True))


def check_at_least_one(**settings: int | None) -> None:
    """Raises an error if a number of a recipe's section ``sampler`` is below 1.

    Args:
        **settings: Numbers by the name of their key; ``None`` is not checked.

    Raises:
        InputError: If one of them is below 1.
    """
    for key, number in settings.items():
        if number is not None and number < 1:
            raise InputError(f"sampler.{key} is {number}; expected at least 1")
