"""Positions of the samples of each class in a batch."""

import torch
from torch import Tensor

from pyg_bgformer.errors import InputError


def class_slots(labels: Tensor, loss: str) -> Tensor:
    """Returns the positions ``(K, C)`` of a batch's samples. Row k holds the k-th sample of each class.

    A column holds the samples of one class, in the order of the batch. The columns are in the order of the first
    samples of the classes.

    Args:
        labels: Labels ``(N,)`` in any order, of C classes with K samples each.
        loss: Name of the loss in messages.

    Raises:
        InputError: If the classes do not all have the same number of samples, at least 2.
    """
    sizes = labels.cpu().unique(return_counts=True)[1]  # a GPU is waited for once
    smallest, largest = (int(size) for size in torch.aminmax(sizes)) if len(sizes) else (0, 0)
    if smallest != largest or smallest < 2:
        raise InputError(
            f"{loss} needs the same number of samples, at least 2, of each class of a batch; "
            f"found {len(sizes)} classes with {smallest} to {largest} samples"
        )
    slots = labels.argsort(stable=True).view(len(sizes), smallest).t()
    return slots[:, slots[0].argsort()]
