"""Batches of P chunks, each of K images of one class: an epoch shows every image."""

import numpy as np
import torch
from torch import Generator, Tensor

from pyg_bgformer.data.samplers.pk_sampler import PKSampler
from pyg_bgformer.data.samplers.planned_sampler import SAMPLERS, Draw, epoch_generator, shuffled, with_seeds
from pyg_bgformer.errors import InputError


@SAMPLERS.register("chunks")
class ChunkSampler(PKSampler):
    """Batch sampler that cuts every class into chunks of K images and deals P chunks to a batch, as in the
    `"Learning Intra-Batch Connections for Deep Metric Learning" <https://arxiv.org/abs/2102.07753>`_ paper.

    **An epoch** shows every image at least once. Each class is shuffled; one of n < K images is first topped up
    to K with replacement. Its last chunk is filled with images of the class drawn once more, and if there is
    nothing to fill a whole further chunk is drawn, so that a class gives ``max(n, K) // K + 1`` chunks. All
    chunks are shuffled together; random ones are repeated until the last batch is full. **A class may occur twice
    in a batch.** Where the images have fewer than P classes, P becomes their number.

    Args:
        labels: Class of each image, shape ``(N,)``, any integers.
        classes: P, the number of chunks in a batch.
        samples: K, the number of images in a chunk.
        seed: Decides every plan, together with the epoch.
        redraw: Draw P anew for each epoch, from the divisors of P * K other than 1 and P * K itself. K follows, so
            that a batch stays as large. The number of batches is then that of the current epoch.

    Yields:
        Batches of P * K pairs ``(position in labels, augmentation seed)``, the K of a chunk consecutive.

    Raises:
        InputError: If a number is below 1, P * K cannot be divided anew, or a drawn P is larger than the number of
            chunks.
    """

    def __init__(
        self,
        labels: np.ndarray | Tensor,
        *,
        classes: int = 20,
        samples: int = 5,
        seed: int,
        redraw: bool = False,
    ) -> None:
        super().__init__(labels, classes=classes, samples=samples, seed=seed)
        size = self.batch_size
        divisors = [p for p in range(2, size // 2 + 1) if size % p == 0]
        self.sizes = [(p, size // p) for p in divisors] if redraw else [(self.classes, samples)]
        if not self.sizes:
            raise InputError(
                f"sampler.redraw: a batch of {size} images cannot be divided in several ways; turn it off"
            )
        for p, k in self.sizes:
            if -self.chunks(k) % p > self.chunks(k):
                raise InputError(
                    f"sampler.redraw: {p} chunks of {k} images a batch, but there are only {self.chunks(k)}"
                )

    def batches_in(self, epoch: int) -> int:
        """Returns the number of batches of an epoch."""
        p, k = self.draw_size(epoch_generator(self.seed, epoch))
        return -(-self.chunks(k) // p)

    def plan(self, epoch: int) -> list[list[Draw]]:
        """Returns all batches of an epoch."""
        generator = epoch_generator(self.seed, epoch)
        p, k = self.draw_size(generator)
        chunks = [chunk for members in self.members for chunk in cut_into_chunks(members, k, generator)]
        order = shuffled(len(chunks), generator)
        order += shuffled(len(chunks), generator)[: -len(chunks) % p]
        return [
            with_seeds([position for chunk in order[i : i + p] for position in chunks[chunk]], generator)
            for i in range(0, len(order), p)
        ]

    def draw_size(self, generator: Generator) -> tuple[int, int]:
        """Returns P and K of the epoch whose random numbers these are; takes the first of them."""
        return self.sizes[int(torch.randint(len(self.sizes), (1,), generator=generator))]

    def chunks(self, k: int) -> int:
        """Returns how many chunks of K images all classes give."""
        return sum(max(len(members), k) // k + 1 for members in self.members)


def cut_into_chunks(members: list[int], k: int, generator: Generator) -> list[list[int]]:
    """Returns a class's chunks of an epoch, each of ``k`` of its members."""
    order = [members[i] for i in shuffled(len(members), generator)]
    lacking = max(0, k - len(members))
    order += [members[i] for i in torch.randint(len(members), (lacking,), generator=generator).tolist()]
    again = shuffled(len(order), generator)[: k - len(order) % k]
    order += [order[i] for i in again]
    return [order[i : i + k] for i in range(0, len(order), k)]
