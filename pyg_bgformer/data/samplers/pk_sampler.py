"""Batches of P classes with K images each."""

from collections.abc import Iterator
from typing import TypedDict

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Sampler

from pyg_bgformer.errors import InputError

#: A sample to load: its position among the labels, and the seed of its augmentation.
Draw = tuple[int, int]


class SamplerState(TypedDict):
    """Where a sampler stands: plain numbers, to be kept in a checkpoint."""

    seed: int
    epoch: int
    batch: int


class PKSampler(Sampler[list[Draw]]):
    """Batch sampler that draws P distinct classes and K images of each.

    **An epoch** is ``batches_per_epoch`` batches, by default as many as the images fill. Its plan depends
    on ``(seed, epoch)`` alone: epochs carry nothing over, so any of them can be repeated or started in the
    middle. Within an epoch the classes are walked through in shuffled order, so that all are used equally
    often to within one; within a class its images are walked through likewise. Nothing is used twice in a
    batch, with one exception: a class of n < K images gives all n and K - n further draws with replacement.

    Args:
        labels: Class of each image, shape ``(N,)``, any integers.
        classes_per_batch: P.
        samples_per_class: K.
        seed: Decides every plan, together with the epoch.
        batches_per_epoch: Default ``max(1, N // (P * K))``.

    Yields:
        Batches of P * K pairs ``(position in labels, augmentation seed)``, the K of a class consecutive.

    Raises:
        InputError: P is larger than the number of classes, or a number is below 1.
    """

    def __init__(
        self,
        labels: np.ndarray | Tensor,
        classes_per_batch: int,
        samples_per_class: int,
        *,
        seed: int,
        batches_per_epoch: int | None = None,
    ) -> None:
        values = np.asarray(labels)
        sizes = np.unique(values, return_counts=True)[1]
        ordered = np.split(np.argsort(values, kind="stable"), np.cumsum(sizes)[:-1])
        self._members = [members.tolist() for members in ordered]
        self.classes_per_batch = classes_per_batch
        self.samples_per_class = samples_per_class
        self.seed = seed
        self.epoch = 0
        self._check_numbers(batches_per_epoch)
        self._check_classes()
        filled = values.size // (classes_per_batch * samples_per_class)
        self.batches_per_epoch = max(1, filled) if batches_per_epoch is None else batches_per_epoch
        self._first = self._given = 0

    def __len__(self) -> int:
        return self.batches_in(self.epoch)

    def batches_in(self, epoch: int) -> int:
        """Number of batches of an epoch."""
        return self.batches_per_epoch

    def __iter__(self) -> Iterator[list[Draw]]:
        first, self._first = self._first, 0
        for number, batch in enumerate(self.plan(self.epoch)[first:], start=first + 1):
            self._given = number
            yield batch

    def plan(self, epoch: int) -> list[list[Draw]]:
        """All batches of an epoch; a pure function of the sampler's settings and the epoch."""
        generator = epoch_generator(self.seed, epoch)
        classes = self._classes(generator)
        images: dict[int, Deck] = {}
        batches = []
        for _ in range(self.batches_per_epoch):
            batch: list[int] = []
            for label in next(classes):
                deck = images.setdefault(label, Deck(len(self._members[label]), generator))
                batch += [self._members[label][item] for item in deck.deal(self.samples_per_class)]
            batches.append(with_seeds(batch, generator))
        return batches

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; another epoch starts with its first batch."""
        if epoch != self.epoch:
            self.epoch, self._first, self._given = epoch, 0, 0

    def state_dict(self, batch: int | None = None) -> SamplerState:
        """Where the sampler stands.

        Args:
            batch: Number of batches of this epoch that were used. The sampler itself knows only how many it
                has given out, and a ``DataLoader`` with workers fetches ahead: pass it there.
        """
        return {"seed": self.seed, "epoch": self.epoch, "batch": self._given if batch is None else batch}

    def load_state_dict(self, state: SamplerState) -> None:
        """Let the next iteration start at batch ``state["batch"]`` of epoch ``state["epoch"]``.

        Raises:
            InputError: The batch is beyond the end of an epoch.
        """
        self.seed, self.epoch = state["seed"], state["epoch"]
        if not 0 <= state["batch"] <= len(self):
            raise InputError(
                f"sampler state at batch {state['batch']}, expected 0 to {len(self)}: "
                "the state is of a run with another batch size or dataset"
            )
        self._first = self._given = state["batch"]

    def _classes(self, generator: Generator) -> Iterator[list[int]]:
        """The classes of one batch after the other."""
        deck = Deck(len(self._members), generator)
        while True:
            yield deck.deal(self.classes_per_batch)

    def _check_numbers(self, batches_per_epoch: int | None) -> None:
        numbers = {
            "classes_per_batch": self.classes_per_batch,
            "samples_per_class": self.samples_per_class,
            "batches_per_epoch": 1 if batches_per_epoch is None else batches_per_epoch,
        }
        for name, number in numbers.items():
            if number < 1:
                raise InputError(f"{name} is {number}, expected at least 1")

    def _check_classes(self) -> None:
        if self.classes_per_batch > len(self._members):
            raise InputError(
                f"classes_per_batch is {self.classes_per_batch}, but there are {len(self._members)} classes; "
                "expected at most as many"
            )


class Deck:
    """Deals items 0..size-1 in shuffled order, again and again, without repetition within a deal."""

    def __init__(self, size: int, generator: Generator) -> None:
        self.size = size
        self.generator = generator
        self.left: list[int] = []

    def deal(self, count: int) -> list[int]:
        """The next so many items; more than there are give all of them and further ones with replacement."""
        if count > self.size:
            extra = torch.randint(self.size, (count - self.size,), generator=self.generator)
            return self._shuffled() + extra.tolist()
        hand, self.left = self.left[:count], self.left[count:]
        if len(hand) < count:
            # the rest comes from a fresh shuffle, in which what is already in the hand moves to the end
            fresh = self._shuffled()
            ordered = [item for item in fresh if item not in hand] + [item for item in fresh if item in hand]
            missing = count - len(hand)
            hand, self.left = hand + ordered[:missing], ordered[missing:]
        return hand

    def _shuffled(self) -> list[int]:
        return torch.randperm(self.size, generator=self.generator).tolist()


def epoch_generator(seed: int, epoch: int) -> Generator:
    """Random numbers of one epoch; unlike with a sum of the two, no two runs share their epochs."""
    mixed = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    return Generator().manual_seed(int(mixed))


def with_seeds(positions: list[int], generator: Generator) -> list[Draw]:
    """A batch: positions, each with the seed of its augmentation."""
    seeds = torch.randint(2**62, (len(positions),), generator=generator).tolist()
    return list(zip(positions, seeds, strict=True))
