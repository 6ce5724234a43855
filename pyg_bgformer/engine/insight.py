"""What the batch graph and the features look like during training, as scalars that are logged once an epoch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pyg_bgformer.methods import Method

COLLAPSE_LIMIT = 0.1
"""A ``feature_scale`` below this is reported as a collapse."""


def graph_insight(method: Method, features: Tensor, labels: Tensor) -> dict[str, float]:
    """Returns ``same_class_attention`` and ``edge_homophily`` of the first graph of :meth:`Method.edges`.

    Training continues as if this had not been called: modes, buffers and random numbers stay as they are.

    Args:
        method: Any method; without a graph the result is empty.
        features: Backbone features ``(N, F)`` of a batch.
        labels: Their classes ``(N,)``.
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
    """Puts a module into eval mode without gradients; restores modes and random numbers afterwards.

    Args:
        module: Its submodules may be in different modes.
        device: Whose random numbers are restored besides the CPU's.
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
    """Returns the standard deviation over a batch, averaged over the dimensions of ``(N, F)`` features."""
    return features.float().std(dim=0, correction=0).mean().item()


def collapsed(history: list[dict[str, float]]) -> bool:
    """Returns whether the features' spread fell below the limit in the last epoch for the first time.

    Args:
        history: One row an epoch, each with a ``feature_scale``.
    """
    low = [row["feature_scale"] < COLLAPSE_LIMIT for row in history]
    return low[-1] and not any(low[:-1])


@torch.no_grad()
def same_class_mass(edge_index: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    r"""Returns the share of the weight on *other* samples that falls on samples of the same class.

    .. math::
        \frac{\sum_{j \neq i, \, y_j = y_i} w_{ij}}{\sum_{j \neq i} w_{ij}}

    Args:
        edge_index: Edges ``(2, E)``; self loops count on neither side.
        weight: Attention or propagation weights, not negative, ``(E,)`` or one per head ``(E, H)``.
        labels: Classes ``(N,)``.

    Returns:
        A scalar in [0, 1]; 0 where no weight lies on other samples.
    """
    source, target = edge_index
    weight = weight.float() if weight.dim() == 1 else weight.float().sum(dim=1)
    mass = weight * (source != target)
    same = mass * (labels[source] == labels[target])
    return same.sum() / mass.sum().clamp(min=torch.finfo(mass.dtype).tiny)


def edge_homophily(edge_index: Tensor, labels: Tensor) -> Tensor:
    """Returns the share of the edges, self loops left out, that join equal labels.

    It equals ``torch_geometric.utils.homophily(method="edge")``, but stays on its device, and is 0 without edges.

    Args:
        edge_index: Edges ``(2, E)``.
        labels: Classes ``(N,)``.
    """
    return same_class_mass(edge_index, torch.ones_like(edge_index[0]), labels)
