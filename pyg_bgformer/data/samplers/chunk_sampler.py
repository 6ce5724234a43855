"""Batches of P chunks with K images of one class each. An epoch shows every image."""

import numpy as np
import torch
from torch import Generator, Tensor

from pyg_bgformer.data.samplers.pk_sampler import PKSampler
from pyg_bgformer.data.samplers.planned_sampler import SAMPLERS, Draw, epoch_generator, shuffled, with_seeds
from pyg_bgformer.errors import InputError


@SAMPLERS.register("chunks")
class ChunkSampler(PKSampler):
    """A batch sampler that cuts every class into chunks of K images and puts P chunks into a batch, as in the
    `"Learning Intra-Batch Connections for Deep Metric Learning" <https://arxiv.org/abs/2102.07753>`_ paper.

    An epoch shows every image at least once. Each class is shuffled. A class of n < K images first gets K - n of
    its images again, drawn with replacement. Then random images of the class fill its last chunk, or a whole
    further chunk if there is nothing to fill. A class thus gives ``max(n, K) // K + 1`` chunks. The chunks of all
    classes are shuffled together, and random chunks are repeated until the last batch is full. *A class can be
    twice in a batch.* If the images have fewer than P classes, P becomes the number of their classes.

    Args:
        labels: Class of each image, shape ``(N,)``, any integers.
        classes: P, the number of chunks in a batch.
        samples: K, the number of images in a chunk.
        seed: A seed that, together with the number of the epoch, decides the batches.
        redraw: Draw P again for each epoch, from the divisors of P * K except 1 and P * K. K changes with it, so
            that batches keep their size. Epochs then have different numbers of batches.

    Yields:
        Batches of P * K pairs ``(position in labels, augmentation seed)``, the K of a chunk consecutive.

    Raises:
        InputError: If a number is below 1, P * K has no such divisors, or there are too few chunks for one of them.
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
        """Returns P and K of an epoch, by the first number of its generator."""
        return self.sizes[int(torch.randint(len(self.sizes), (1,), generator=generator))]

    def chunks(self, k: int) -> int:
        """Returns the number of chunks of all classes, with K images in a chunk."""
        return sum(max(len(members), k) // k + 1 for members in self.members)


def cut_into_chunks(members: list[int], k: int, generator: Generator) -> list[list[int]]:
    """Returns the chunks of a class in an epoch, each with ``k`` positions of its images."""
    order = [members[i] for i in shuffled(len(members), generator)]
    lacking = max(0, k - len(members))
    order += [members[i] for i in torch.randint(len(members), (lacking,), generator=generator).tolist()]
    again = shuffled(len(order), generator)[: k - len(order) % k]
    order += [order[i] for i in again]
    return [order[i : i + k] for i in range(0, len(order), k)]
