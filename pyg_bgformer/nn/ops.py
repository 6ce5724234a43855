"""Attention's two products along the edges of a graph, without one copy of the features per edge.

A message-passing layer gathers the features of both ends of every edge: ``E x D`` numbers for each of query,
key and value, and again for their gradients. The two products it needs from them are matrix products with a
sparse operand - scores are a *sampled dense-dense product*, the weighted sum is a *sparse-dense product* - and
so are their gradients. Held in compressed rows, memory is ``O(N D + E H)`` for ``H`` heads.
"""

import warnings
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class CompressedEdges(NamedTuple):
    """Edges sorted by receiver, as compressed sparse rows, and the same edges sorted by sender.

    With several heads they are one graph of ``H x N`` nodes: a copy of the edges per head, one after another.
    One sparse product then serves all heads.

    Attributes:
        rowptr: ``(H N + 1,)``; the edges into node i are ``rowptr[i]:rowptr[i + 1]``.
        sender: ``(H E,)`` sender of each edge.
        receiver: ``(H E,)`` receiver of each edge, ascending.
        colptr: ``(H N + 1,)``; the same for the edges out of each node.
        by_sender: ``(H E,)`` the edges' order by sender.
        receiver_by_sender: ``(H E,)`` receiver of each edge in that order.
    """

    rowptr: Tensor
    sender: Tensor
    receiver: Tensor
    colptr: Tensor
    by_sender: Tensor
    receiver_by_sender: Tensor


def compress_edges(edge_index: Tensor, num_nodes: int, heads: int = 1) -> CompressedEdges:
    """Sorts an edge index ``(2, E)`` of senders and receivers in any order.

    Raises:
        ValueError: If an edge leads from or to a node that there is not.
    """
    sender, receiver = edge_index
    if receiver.numel() > 1 and bool((receiver[1:] < receiver[:-1]).any()):
        receiver, order = receiver.sort(stable=True)
        sender = sender[order]
    in_degree, out_degree = receiver.bincount(minlength=num_nodes), sender.bincount(minlength=num_nodes)
    # The sparse products do not look: they would read past the end of the features.
    if max(in_degree.numel(), out_degree.numel()) > num_nodes:
        raise ValueError(f"edge_index names node {int(edge_index.max())}, but there are {num_nodes} nodes")
    by_sender, num_edges = sender.argsort(stable=True), sender.numel()
    return CompressedEdges(
        rowptr=_offsets(in_degree, heads, num_edges),
        sender=_copies(sender, heads, num_nodes),
        receiver=_copies(receiver, heads, num_nodes),
        colptr=_offsets(out_degree, heads, num_edges),
        by_sender=_copies(by_sender, heads, num_edges),
        receiver_by_sender=_copies(receiver[by_sender], heads, num_nodes),
    )


def edge_dot(receiver_x: Tensor, sender_x: Tensor, edges: CompressedEdges) -> Tensor:
    """Inner products of both ends of each edge, ``(H N, d), (H N, d) -> (H E,)``; float32 or float64."""
    return _EdgeDot.apply(receiver_x, sender_x, edges)


def edge_sum(weight: Tensor, sender_x: Tensor, edges: CompressedEdges) -> Tensor:
    """Weighted sums over the edges into each node, ``(H E,), (H N, d) -> (H N, d)``; float32 or float64."""
    return _EdgeSum.apply(weight, sender_x, edges)


def edge_softmax(scores: Tensor, edges: CompressedEdges) -> Tensor:
    """Softmax of ``(H E,)`` over the edges into each node; float32 or float64."""
    return _EdgeSoftmax.apply(scores, edges)


def _copies(index: Tensor, heads: int, step: int) -> Tensor:
    """The index once per head, shifted; int32, to which the sparse products would convert at every call."""
    fits = heads * step <= torch.iinfo(torch.int32).max
    index = index.int() if fits else index
    shifts = step * torch.arange(heads, dtype=index.dtype, device=index.device)
    return (index + shifts[:, None]).flatten()


def _offsets(degree: Tensor, heads: int, num_edges: int) -> Tensor:
    """Where the edges of each node begin and, at last, where they end."""
    begins = degree.cumsum(0) - degree
    return F.pad(_copies(begins, heads, num_edges), (0, 1), value=heads * num_edges)


def _matrix(pointer: Tensor, index: Tensor, values: Tensor) -> Tensor:
    size = (pointer.numel() - 1,) * 2
    with warnings.catch_warnings():  # torch says once per process that compressed rows are in beta
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
        return torch.sparse_csr_tensor(pointer, index, values, size, check_invariants=False)


def _product(matrix: Tensor, x: Tensor) -> Tensor:
    """Outside autocast, in which backward passes may run too: there are no half-precision products on a CPU."""
    with torch.autocast(x.device.type, enabled=False):
        return torch.addmm(x, matrix, x, beta=0.0)  # what `@` calls, less its matrix of zeros to add to


def _sampled_product(left: Tensor, right: Tensor, edges: CompressedEdges) -> Tensor:
    """``(H E,)``: for each edge, left at its receiver times right at its sender."""
    pattern = _matrix(edges.rowptr, edges.sender, left.new_zeros(edges.sender.numel()))
    return torch.sparse.sampled_addmm(pattern, left, right.t(), beta=0.0, out=pattern).values()


def _gathered(weight: Tensor, sender_x: Tensor, edges: CompressedEdges) -> Tensor:
    """``(H N, d)``: at each node, the weighted sum over its senders."""
    return _product(_matrix(edges.rowptr, edges.sender, weight), sender_x)


def _returned(weight: Tensor, receiver_x: Tensor, edges: CompressedEdges) -> Tensor:
    """``(H N, d)``: at each node, the weighted sum over its receivers: the transpose of the sum above."""
    weight = weight.index_select(0, edges.by_sender)
    return _product(_matrix(edges.colptr, edges.receiver_by_sender, weight), receiver_x)


def _reduced(values: Tensor, edges: CompressedEdges, reduce: str) -> Tensor:
    """``(H E,)``: for each edge, the ``sum`` or ``max`` over all edges into the same node."""
    nodes = torch.segment_reduce(values, reduce, offsets=edges.rowptr)
    return nodes.index_select(0, edges.receiver)


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


class _EdgeSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, edges: CompressedEdges) -> Tensor:
        alpha = (scores - _reduced(scores, edges, "max")).exp_()
        alpha = alpha / _reduced(alpha, edges, "sum")
        ctx.save_for_backward(alpha)
        ctx.edges = edges
        return alpha

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (alpha,) = ctx.saved_tensors
        weighted = alpha * grad
        return weighted.sub_(alpha * _reduced(weighted, ctx.edges, "sum")), None
