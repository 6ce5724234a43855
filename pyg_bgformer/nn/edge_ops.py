"""Attention's two products along the edges of a graph, without one copy of the features per edge.

A message-passing layer gathers the features of both ends of every edge: ``E x D`` numbers for each of query,
key and value, and again for their gradients. The two products it needs from them are matrix products with a
sparse operand - scores are a *sampled dense-dense product*, the weighted sum is a *sparse-dense product* - and
so are their gradients. Held in compressed rows, memory is ``O(N D + E H)`` for ``H`` heads.
"""

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class CompressedEdges(NamedTuple):
    """Edges sorted by receiver, as compressed sparse rows, and the same edges sorted by sender.

    Attributes:
        rowptr: ``(N + 1,)``; the edges into node i are ``rowptr[i]:rowptr[i + 1]``.
        sender: ``(E,)`` sender of each edge.
        receiver: ``(E,)`` receiver of each edge, ascending.
        colptr: ``(N + 1,)``; the same for the edges out of each node.
        by_sender: ``(E,)`` the edges' order by sender.
    """

    rowptr: Tensor
    sender: Tensor
    receiver: Tensor
    colptr: Tensor
    by_sender: Tensor

    @property
    def num_nodes(self) -> int:
        """Number of nodes N."""
        return self.rowptr.numel() - 1


def compress_edges(edge_index: Tensor, num_nodes: int) -> CompressedEdges:
    """Sorts an edge index ``(2, E)`` of senders and receivers in any order."""
    sender, receiver = edge_index
    if receiver.numel() > 1 and bool((receiver[1:] < receiver[:-1]).any()):
        receiver, order = receiver.sort(stable=True)
        sender = sender[order]
    return CompressedEdges(
        rowptr=_offsets(receiver, num_nodes),
        sender=sender,
        receiver=receiver,
        colptr=_offsets(sender, num_nodes),
        by_sender=sender.argsort(stable=True),
    )


def edge_dot(receiver_x: Tensor, sender_x: Tensor, edges: CompressedEdges) -> Tensor:
    """Inner products of both ends of each edge, ``(H, N, d), (H, N, d) -> (H, E)``; float32 or float64."""
    return _EdgeDot.apply(receiver_x, sender_x, edges)


def edge_sum(weight: Tensor, sender_x: Tensor, edges: CompressedEdges) -> Tensor:
    """Weighted sums over the edges into each node, ``(H, E), (H, N, d) -> (H, N, d)``; float32 or float64."""
    return _EdgeSum.apply(weight, sender_x, edges)


def _offsets(index: Tensor, num_nodes: int) -> Tensor:
    counts = torch.bincount(index, minlength=num_nodes)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _matrix(pointer: Tensor, index: Tensor, values: Tensor) -> Tensor:
    size = (pointer.numel() - 1,) * 2
    with warnings.catch_warnings():  # torch says once per process that compressed rows are in beta
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
        return torch.sparse_csr_tensor(pointer, index, values, size, check_invariants=False)


def _sampled_product(left: Tensor, right: Tensor, edges: CompressedEdges) -> Tensor:
    """``(H, E)``: for each edge, left at its receiver times right at its sender."""
    pattern = _matrix(edges.rowptr, edges.sender, left.new_zeros(edges.sender.numel()))
    return torch.stack(
        [
            torch.sparse.sampled_addmm(pattern, a, b.t(), beta=0.0).values()
            for a, b in zip(left, right, strict=True)
        ]
    )


def _gathered(weight: Tensor, sender_x: Tensor, edges: CompressedEdges) -> Tensor:
    """``(H, N, d)``: at each node, the weighted sum over its senders."""
    return torch.stack(
        [_matrix(edges.rowptr, edges.sender, w) @ a for w, a in zip(weight, sender_x, strict=True)]
    )


def _returned(weight: Tensor, receiver_x: Tensor, edges: CompressedEdges) -> Tensor:
    """``(H, N, d)``: at each node, the weighted sum over its receivers: the transpose of the sum above."""
    receiver = edges.receiver[edges.by_sender]
    return torch.stack(
        [
            _matrix(edges.colptr, receiver, w[edges.by_sender]) @ a
            for w, a in zip(weight, receiver_x, strict=True)
        ]
    )


class _EdgeDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, receiver_x: Tensor, sender_x: Tensor, edges: CompressedEdges) -> Tensor:
        ctx.save_for_backward(receiver_x, sender_x)
        ctx.edges = edges
        return _sampled_product(receiver_x, sender_x, edges)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        receiver_x, sender_x = ctx.saved_tensors
        return _gathered(grad, sender_x, ctx.edges), _returned(grad, receiver_x, ctx.edges), None


class _EdgeSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, sender_x: Tensor, edges: CompressedEdges) -> Tensor:
        ctx.save_for_backward(weight, sender_x)
        ctx.edges = edges
        return _gathered(weight, sender_x, edges)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, sender_x = ctx.saved_tensors
        grad = grad.contiguous()
        return _sampled_product(grad, sender_x, ctx.edges), _returned(weight, grad, ctx.edges), None
