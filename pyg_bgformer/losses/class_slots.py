"""Where the samples of each class are in a batch."""

import torch
from torch import Tensor

from pyg_bgformer.errors import InputError


def class_slots(labels: Tensor, loss: str) -> Tensor:
    """Returns the positions ``(K, C)`` of a batch's samples; row k holds the k-th sample of each class.

    Samples of a class keep the batch's order. The classes, the columns, come in the order of their first samples.

    Args:
        labels: ``(N,)`` in any order, of C classes with K samples each.
        loss: What the message calls the loss that asks.

    Raises:
        InputError: If the classes do not all have the same number of samples, at least two.
    """
    sizes = labels.cpu().unique(return_counts=True)[1]  # a GPU is waited for once
    smallest, largest = (int(size) for size in torch.aminmax(sizes)) if len(sizes) else (0, 0)
    if smallest != largest or smallest < 2:
        raise InputError(
            f"{loss} needs the same number of samples, at least 2, of each class of a batch; "
            f"found {len(sizes)} classes with {smallest} to {largest}"
        )
    slots = labels.argsort(stable=True).view(len(sizes), smallest).t()
    return slots[:, slots[0].argsort()]
