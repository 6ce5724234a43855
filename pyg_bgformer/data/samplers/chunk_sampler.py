"""Batches of P chunks, each of K images of one class: an epoch shows every image."""

import numpy as np
import torch
from torch import Generator, Tensor

from pyg_bgformer.data.samplers.pk_sampler import Draw, PKSampler, epoch_generator, with_seeds
from pyg_bgformer.errors import InputError


class ChunkSampler(PKSampler):
    """Batch sampler that cuts every class into chunks of K images and deals P chunks to a batch, as in the
    `"Learning Intra-Batch Connections for Deep Metric Learning" <https://arxiv.org/abs/2102.07753>`_ paper.

    **An epoch** shows every image at least once. Each class is shuffled; one of n < K images is first topped up
    to K with replacement. Its last chunk is filled with images of the class drawn once more, and where there is
    nothing to fill a whole further chunk is drawn, so that a class gives ``max(n, K) // K + 1`` chunks. All
    chunks are shuffled together; random ones are repeated until the last batch is full. **A class may occur twice
    in a batch.** As in :class:`PKSampler`, the plan of an epoch depends on ``(seed, epoch)`` alone.

    Args:
        labels: Class of each image, shape ``(N,)``, any integers.
        classes_per_batch: P.
        samples_per_class: K.
        seed: Decides every plan, together with the epoch.
        redraw: Draw P anew for each epoch, from the divisors of P * K other than 1 and P * K itself; K follows, so
            that a batch stays as large. The number of batches, ``len()``, is then that of the current epoch.

    Yields:
        Batches of P * K pairs ``(position in labels, augmentation seed)``, the K of a chunk consecutive.

    Raises:
        InputError: P is larger than the number of classes, a number is below 1, P * K cannot be divided anew, or a
            drawn P is larger than the chunks that there are.
    """

    def __init__(
        self,
        labels: np.ndarray | Tensor,
        classes_per_batch: int,
        samples_per_class: int,
        *,
        seed: int,
        redraw: bool = False,
    ) -> None:
        super().__init__(labels, classes_per_batch, samples_per_class, seed=seed)
        size = classes_per_batch * samples_per_class
        divisors = [p for p in range(2, size // 2 + 1) if size % p == 0]
        self._sizes = (
            [(p, size // p) for p in divisors] if redraw else [(classes_per_batch, samples_per_class)]
        )
        if not self._sizes:
            raise InputError(
                f"redraw: a batch of {size} images cannot be divided in several ways; turn it off"
            )
        for p, k in self._sizes:
            if -self._chunks(k) % p > self._chunks(k):
                raise InputError(
                    f"redraw: {p} chunks of {k} images a batch, but there are only {self._chunks(k)}"
                )

    def batches_in(self, epoch: int) -> int:
        """Number of batches of an epoch."""
        p, k = self._drawn_size(epoch_generator(self.seed, epoch))
        return -(-self._chunks(k) // p)

    def plan(self, epoch: int) -> list[list[Draw]]:
        """All batches of an epoch; a pure function of the sampler's settings and the epoch."""
        generator = epoch_generator(self.seed, epoch)
        p, k = self._drawn_size(generator)
        chunks = [chunk for members in self._members for chunk in _cut(members, k, generator)]
        order = torch.randperm(len(chunks), generator=generator).tolist()
        order += torch.randperm(len(chunks), generator=generator)[: -len(chunks) % p].tolist()
        return [
            with_seeds([position for chunk in order[i : i + p] for position in chunks[chunk]], generator)
            for i in range(0, len(order), p)
        ]

    def _drawn_size(self, generator: Generator) -> tuple[int, int]:
        """P and K of the epoch whose random numbers these are."""
        return self._sizes[int(torch.randint(len(self._sizes), (1,), generator=generator))]

    def _chunks(self, k: int) -> int:
        return sum(max(len(members), k) // k + 1 for members in self._members)


def _cut(members: list[int], k: int, generator: Generator) -> list[list[int]]:
    """A class's chunks of an epoch."""
    shuffled = [members[i] for i in torch.randperm(len(members), generator=generator).tolist()]
    lacking = max(0, k - len(members))
    shuffled += [members[i] for i in torch.randint(len(members), (lacking,), generator=generator).tolist()]
    again = torch.randperm(len(shuffled), generator=generator)[: k - len(shuffled) % k].tolist()
    filled = shuffled + [shuffled[i] for i in again]
    return [filled[i : i + k] for i in range(0, len(filled), k)]
