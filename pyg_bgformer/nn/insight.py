"""What a batch graph does, as scalars to be logged: how much of it joins samples of one class."""

import torch
from torch import Tensor


@torch.no_grad()
def same_class_mass(edge_index: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    r"""Share of the weight on *other* samples that falls on samples of the same class.

    .. math::
        \frac{\sum_{j \neq i, \, y_j = y_i} w_{ij}}{\sum_{j \neq i} w_{ij}}

    Args:
        edge_index (Tensor): Edges ``(2, E)``; self loops count on neither side.
        weight (Tensor): Attention or propagation weights, not negative, ``(E,)`` or one per head ``(E, H)``.
        labels (Tensor): ``(N,)``.

    Returns:
        Tensor: A scalar in [0, 1] without gradient; 0 where no weight lies on other samples.
    """
    sender, receiver = edge_index
    weight = weight.float() if weight.dim() == 1 else weight.float().sum(dim=1)
    mass = weight * (sender != receiver)
    same = mass * (labels[sender] == labels[receiver])
    return same.sum() / mass.sum().clamp(min=torch.finfo(mass.dtype).tiny)


def edge_homophily(edge_index: Tensor, labels: Tensor) -> Tensor:
    """Share of the edges ``(2, E)``, self loops left out, that join equal labels ``(N,)``.

    It is ``torch_geometric.utils.homophily(method="edge")`` as a scalar that stays on its device, 0 where there
    are no such edges.
    """
    return same_class_mass(edge_index, torch.ones_like(edge_index[0]), labels)
