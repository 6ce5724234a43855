"""Numbers about the batch graph and the features, which are logged once in each epoch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pyg_bgformer.methods import Method

COLLAPSE_LIMIT = 0.1
"""Below this ``feature_scale``, the features have collapsed."""


def graph_insight(method: Method, features: Tensor, labels: Tensor) -> dict[str, float]:
    """Returns ``same_class_attention`` and ``edge_homophily`` of the first graph of :meth:`Method.edges`.

    Modes and random numbers of the training do not change.

    Args:
        method: The method. If it has no graph, the result is empty.
        features: ``(N, F)``, backbone features of a batch.
        labels: ``(N,)``, their classes.
    """
    with unchanged(method, features.device):
        edges = method.edges(features.detach(), labels)
        if not edges:
            return {}
        edge_index, weight = next(iter(edges.values()))
        return {
            "same_class_attention": same_class_mass(edge_index, weight, labels).item(),
            "edge_homophily": edge_homophily(edge_index, labels).item(),
        }


@contextmanager
def unchanged(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Puts a module into eval mode without gradients. Restores modes and random numbers afterwards.

    Args:
        module: The module. Its submodules may be in different modes.
        device: The random numbers of this device are restored, and those of the CPU.
    """
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


@torch.no_grad()
def feature_spread(features: Tensor) -> float:
    """Returns the standard deviation of ``(N, F)`` features over the batch, averaged over the dimensions."""
    return features.float().std(dim=0, correction=0).mean().item()


def collapsed(history: list[dict[str, float]]) -> bool:
    """Returns whether ``feature_scale`` is below :data:`COLLAPSE_LIMIT` for the first time in the last epoch.

    Args:
        history: One row for each epoch, each with a ``feature_scale``.
    """
    low = [row["feature_scale"] < COLLAPSE_LIMIT for row in history]
    return low[-1] and not any(low[:-1])


@torch.no_grad()
def same_class_mass(edge_index: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    r"""Returns the share of the weight on *other* samples that is on samples of the same class.

    .. math::
        \frac{\sum_{j \neq i, \, y_j = y_i} w_{ij}}{\sum_{j \neq i} w_{ij}}

    Args:
        edge_index: ``(2, E)``, source and target of each edge. Self loops are not counted.
        weight: Attention or propagation weights from 0, ``(E,)`` or one for each head ``(E, H)``.
        labels: ``(N,)``, classes.

    Returns:
        A scalar from 0 to 1. It is 0 if there is no weight on other samples.
    """
    source, target = edge_index
    weight = weight.float() if weight.dim() == 1 else weight.float().sum(dim=1)
    mass = weight * (source != target)
    same = mass * (labels[source] == labels[target])
    return same.sum() / mass.sum().clamp(min=torch.finfo(mass.dtype).tiny)


def edge_homophily(edge_index: Tensor, labels: Tensor) -> Tensor:
    """Returns the share of the edges without self loops that join equal labels, from 0 to 1.

    Without self loops it equals ``torch_geometric.utils.homophily(method="edge")``. It stays on the device. It is
    0 if there are no edges.

    Args:
        edge_index: ``(2, E)``, source and target of each edge.
        labels: ``(N,)``, classes.
    """
    return same_class_mass(edge_index, torch.ones_like(edge_index[0]), labels)
