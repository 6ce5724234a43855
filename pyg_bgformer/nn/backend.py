"""Which of a layer's equal paths runs, and the edge set in the form that each needs."""

from typing import Literal, get_args

import torch
from torch import Tensor

Backend = Literal["auto", "message", "sparse", "dense"]
"""How a layer computes; all give the same numbers.

``message``: PyG message passing, one message per edge - the definition. ``sparse``: the same sums as products
with a sparse matrix, memory linear in the edges. ``dense``: over all pairs of nodes, other pairs masked.
``auto``: the faster of the last two, as measured by ``benchmarks/layers.py``.
"""

Edges = dict[str, tuple[Tensor, Tensor]]
"""The edges ``(2, E)`` and weights, ``(E,)`` or per head ``(E, H)``, of each of a network's layers.

Networks return them with ``return_attention_weights``. A key is the layer's name as a submodule, in the order of
the forward pass: ``network.get_submodule(key)`` is the layer that has these edges."""

DENSE_UP_TO = 160
"""Nodes up to which ``auto`` is dense on a CPU: below, the sparse products' fixed costs outweigh their savings."""

DENSE_FROM_SHARE = 1 / 9
"""Share of all pairs that are edges from which ``auto`` is dense on a CPU."""

DENSE_UP_TO_ON_GPU = 8192
"""Nodes up to which ``auto`` is dense on a GPU, whose attention kernels take masks of that size in their stride."""


def check_backend(backend: str) -> None:
    """Raises :class:`ValueError` for a name that is not a backend."""
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}; found {backend!r}")


def pick_backend(backend: Backend, edge_index: Tensor, num_nodes: int) -> Backend:
    """Resolves ``auto`` for an edge index ``(2, E)`` over ``num_nodes`` nodes; another name stays as it is."""
    if backend != "auto":
        return backend
    if edge_index.is_cuda:
        return "dense" if num_nodes <= DENSE_UP_TO_ON_GPU else "sparse"
    share = edge_index.size(1) / max(1, num_nodes) ** 2
    return "dense" if num_nodes <= DENSE_UP_TO or share >= DENSE_FROM_SHARE else "sparse"


def edge_counts(edge_index: Tensor, num_nodes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """``(N, N)``: how many edges lead into the node of the row from the node of the column."""
    sender, receiver = edge_index
    counts = torch.zeros(num_nodes * num_nodes, dtype=dtype, device=edge_index.device)
    ones = torch.ones_like(sender, dtype=dtype)
    return counts.scatter_add_(0, receiver * num_nodes + sender, ones).view(num_nodes, num_nodes)


def edge_mask(edge_index: Tensor, num_nodes: int) -> Tensor:
    """``(N, N)``: what to add to the scores: 0 for an edge, -inf for none, log 2 for an edge given twice."""
    counts = edge_counts(edge_index, num_nodes)
    if edge_index.numel() and counts.amax() > 1:
        return counts.log_()
    return counts.reciprocal_().neg_().add_(1.0)  # 1 - 1/1 = 0, 1 - 1/0 = -inf: the logarithm of 0 is slow


def same_graph(batch: Tensor | None, num_nodes: int, device: torch.device) -> Tensor:
    """``(N, N)``: whether two nodes belong to one graph of a PyG ``Batch``; all do where ``batch`` is None."""
    if batch is None:
        return torch.ones(num_nodes, num_nodes, dtype=torch.bool, device=device)
    return batch[:, None] == batch[None, :]
