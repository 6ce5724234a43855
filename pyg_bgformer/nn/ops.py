"""What the backends of the layers share: the choice of a backend, edges as matrices, and products along edges.

A message-passing layer copies the features of both ends of every edge: ``E x D`` numbers for each of query, key
and value, and again for their gradients. The sparse backend avoids these copies. Scores are a *sampled dense-dense
product*, weighted sums a *sparse-dense product*, and so are their gradients. With compressed rows, memory is
``O(N D + E H)`` for ``H`` heads.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_bgformer.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")

Backend = Literal["auto", "message", "sparse", "dense"]
"""How a layer computes. All backends give the same numbers.

``message``: PyG message passing, one message for each edge; this is the definition. ``sparse``: products with a
sparse matrix, in memory linear in the edges. ``dense``: products over all pairs of nodes with a mask. ``auto``: the
faster of the last two, as measured by ``benchmarks/layers.py``. ``torch.compile`` and ``torch.export`` work with
``dense``, ``message`` and ``auto``, which is then dense.
"""

Edges = dict[str, tuple[Tensor, Tensor]]
"""The edges ``(2, E)`` and weights, ``(E,)`` or ``(E, H)`` with heads, of each layer of a network.

Networks return them with ``return_attention_weights``. The keys are names of submodules in the order of the forward
pass: ``network.get_submodule(key)`` is the layer that has these edges."""

DENSE_UP_TO = 160
"""Largest number of nodes with which ``auto`` is always dense on a CPU. There, fixed costs make sparse slower."""

DENSE_FROM_SHARE = 1 / 9
"""Smallest share of edges in all pairs with which ``auto`` is dense on a CPU for more nodes."""

DENSE_UP_TO_ON_GPU = 3072
"""Largest number of nodes with which ``auto`` is dense on a GPU. On an NVIDIA H200 with 30 neighbours, dense takes
0.55 times as long as sparse with 2048 nodes, 1.25 with 4096 and 3.4 with 8192. With 10 neighbours these are 0.65
with 2048 and 3.8 with 8192 (``benchmarks/gpu.py --parts layers backends``)."""

FLAT = 16
"""Values count as equal if they differ by at most this many rounding errors of the largest of them."""


def pick_backend(backend: Backend, edge_index: Tensor, num_nodes: int) -> Backend:
    """Returns the backend that computes: the given one or, for ``auto``, the faster one.

    Args:
        backend: The layer's backend.
        edge_index: Edges ``(2, E)``.
        num_nodes: Number of nodes.
    """
    if backend != "auto":
        return backend
    if torch.compiler.is_compiling():
        return "dense"
    if edge_index.is_cuda:
        return "dense" if num_nodes <= DENSE_UP_TO_ON_GPU else "sparse"
    share = edge_index.size(1) / max(1, num_nodes) ** 2
    return "dense" if num_nodes <= DENSE_UP_TO or share >= DENSE_FROM_SHARE else "sparse"


def not_compiled(reason: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Returns a decorator for a function that cannot be compiled.

    ``torch.compile`` runs such a function uncompiled and compiles the code around it. With ``fullgraph=True`` it
    raises an error with the reason. ``torch.export`` raises an :class:`~pyg_bgformer.errors.InputError` with it.

    Args:
        reason: What cannot be compiled, and what to use instead.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        as_it_is = torch.compiler.disable(function, reason=reason)

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if torch.compiler.is_exporting():
                raise InputError(reason)
            return as_it_is(*args, **kwargs)

        return wrapper

    return decorate


NO_SPARSE = "backend='sparse' cannot be compiled or exported; use 'auto', 'dense' or 'message'"
"""Why the sparse backend cannot be compiled: torch.compile does not support tensors with compressed rows."""


def check_heads(in_channels: int, heads: int) -> None:
    """Raises an error unless the heads share the channels evenly.

    Args:
        in_channels: Number of channels.
        heads: Number of attention heads.

    Raises:
        InputError: If ``heads`` does not divide ``in_channels``.
    """
    if heads < 1 or in_channels % heads != 0:
        raise InputError(f"heads must divide in_channels: found {heads} heads, {in_channels} channels")


def edge_counts(edge_index: Tensor, num_nodes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns the number of edges ``(N, N)`` to the node of the row from the node of the column.

    Args:
        edge_index: Edges ``(2, E)``.
        num_nodes: Number of nodes N.
        dtype: Type of the result.
    """
    source, target = edge_index
    counts = torch.zeros(num_nodes * num_nodes, dtype=dtype, device=edge_index.device)
    ones = torch.ones_like(source, dtype=dtype)
    return counts.scatter_add_(0, target * num_nodes + source, ones).view(num_nodes, num_nodes)


def edge_mask(counts: Tensor) -> Tensor:
    """Returns a mask ``(N, N)`` to add to attention scores: -inf for no edge, 0 for one edge, log n for n edges.

    Args:
        counts: ``(N, N)``, from :func:`edge_counts`.
    """
    return counts.clamp(min=1).log_().masked_fill_(counts == 0, -torch.inf)  # the logarithm of 0 is slow


def same_graph(batch: Tensor | None, num_nodes: int, device: torch.device) -> Tensor:
    """Returns a mask ``(N, N)``: whether two nodes belong to the same graph of a PyG ``Batch``.

    Args:
        batch: Graph of each node ``(N,)``, or :obj:`None` for a single graph.
        num_nodes: Number of nodes N.
        device: Device of the result.
    """
    if batch is None:
        return torch.ones(num_nodes, num_nodes, dtype=torch.bool, device=device)
    return batch[:, None] == batch[None, :]


def complete_edges(num_nodes: int, num_graphs: int = 1, device: torch.device | None = None) -> Tensor:
    """Returns all pairs of nodes of each graph ``(2, G * N ** 2)``, self loops included, sorted by source.

    Args:
        num_nodes: Number of nodes N of each graph.
        num_graphs: Number of graphs G. Their nodes are numbered consecutively.
        device: Device of the result.
    """
    nodes = torch.arange(num_graphs * num_nodes, device=device).view(num_graphs, num_nodes)
    source = nodes[:, :, None].expand(-1, -1, num_nodes)
    return torch.stack([source.flatten(), source.transpose(1, 2).flatten()])


def rescale(values: Tensor, low: Tensor, high: Tensor, *, flat: float) -> Tensor:
    """Returns values in ``[low, high]`` rescaled to [0, 1].

    Args:
        values: The values.
        low: The smallest values, in a shape that broadcasts.
        high: The largest values.
        flat: The result where ``low`` and ``high`` are equal within rounding.
    """
    spread = high - low
    rounding = FLAT * torch.finfo(values.dtype).eps * torch.maximum(high.abs(), low.abs())
    equal = spread <= rounding  # False for NaN, so that NaN stays in the result
    return ((values - low) / spread.masked_fill(equal, 1.0)).masked_fill(equal, flat)


class CompressedEdges(NamedTuple):
    """Edges sorted by target, as compressed sparse rows, and the same edges sorted by source.

    With several heads they are one graph of ``H x N`` nodes: a copy of the edges per head, one after another.
    One sparse product then serves all heads.

    Attributes:
        rowptr: ``(H N + 1,)``; the edges into node i are ``rowptr[i]:rowptr[i + 1]``.
        source: ``(H E,)`` source of each edge.
        colptr: ``(H N + 1,)``; the same for the edges out of each node.
        by_source: ``(H, E)`` the edges' order by source. The heads share one row in memory.
        target_by_source: ``(H E,)`` target of each edge, sorted by source.
        degree: Number of edges into each node, or 0 if nodes differ in it.
    """

    rowptr: Tensor
    source: Tensor
    colptr: Tensor
    by_source: Tensor
    target_by_source: Tensor
    degree: int

    @property
    def target(self) -> Tensor:
        """Returns the target of each edge ``(H E,)``, ascending."""
        return torch.arange(self.rowptr.numel() - 1, device=self.rowptr.device).repeat_interleave(
            self.rowptr.diff(), output_size=self.source.numel()
        )


def compress_edges(edge_index: Tensor, num_nodes: int, heads: int = 1) -> CompressedEdges:
    """Returns edges in compressed form.

    Args:
        edge_index: Edges ``(2, E)`` in any order.
        num_nodes: Number of nodes.
        heads: Number of attention heads.

    Raises:
        InputError: If an edge names a node outside the graph.
    """
    num_edges = edge_index.size(1)
    # Some of the products do not check indices: they would read past the end of the features.
    if num_edges and int(edge_index.max()) >= num_nodes:
        raise InputError(f"edge_index names node {int(edge_index.max())}, but there are {num_nodes} nodes")
    source, target = edge_index.to(_smallest_type(num_nodes))  # smaller integers are sorted in less time
    if num_edges > 1 and bool((target[1:] < target[:-1]).any()):
        target, order = target.sort(stable=True)
        source = source[order]
    sorted_source, by_source = source.sort(stable=True)
    nodes = torch.arange(num_nodes, dtype=source.dtype, device=source.device)
    begins = torch.searchsorted(target, nodes)
    degree, rest = divmod(num_edges, max(1, num_nodes))
    regular = rest == 0 and torch.equal(begins, degree * torch.arange(num_nodes, device=begins.device))
    wide = torch.promote_types(torch.int32, _smallest_type(heads * max(num_nodes, num_edges)))

    def copies(index: Tensor, step: int) -> Tensor:
        """Returns a shifted copy of the index for each head, in a type that the products do not convert."""
        shifts = step * torch.arange(heads, dtype=wide, device=index.device)
        return (index.to(wide) + shifts[:, None]).flatten()

    def pointer(begins: Tensor) -> Tensor:
        """Returns the position of the first edge of each node and, as the last entry, the number of edges."""
        return F.pad(copies(begins, num_edges), (0, 1), value=heads * num_edges)

    return CompressedEdges(
        rowptr=pointer(begins),
        source=copies(source, num_nodes),
        colptr=pointer(torch.searchsorted(sorted_source, nodes)),
        by_source=by_source.expand(heads, -1),
        target_by_source=copies(target[by_source], num_nodes),
        degree=degree if regular else 0,
    )


def heads_as_nodes(parts: Tensor) -> tuple[Tensor, ...]:
    """Returns features ``(P, H, N, d)`` as P tensors ``(H N, d)``, with one head after another.

    Args:
        parts: Features that the products along edges need, such as queries, keys and values.
    """
    out: tuple[Tensor, ...] = _HeadsAsNodes.apply(parts)
    return out


def edge_dot(target_x: Tensor, source_x: Tensor, edges: CompressedEdges, scale: float = 1.0) -> Tensor:
    """Returns the scaled inner product of the features of both ends of each edge, ``(H E,)``.

    Args:
        target_x: Features of the targets ``(H N, d)`` in float32 or float64.
        source_x: Features of the sources ``(H N, d)``.
        edges: The edges.
        scale: Factor of the products.
    """
    out: Tensor = _EdgeDot.apply(target_x, source_x, edges, scale)
    return out


def edge_sum(weight: Tensor, source_x: Tensor, edges: CompressedEdges) -> Tensor:
    """Returns the weighted sum over the edges into each node, ``(H N, d)``.

    Args:
        weight: Weight of each edge ``(H E,)`` in float32 or float64.
        source_x: Features of the sources ``(H N, d)``.
        edges: The edges.
    """
    out: Tensor = _EdgeSum.apply(weight, source_x, edges)
    return out


def edge_softmax(scores: Tensor, edges: CompressedEdges) -> Tensor:
    """Returns the softmax over the edges into each node, ``(H E,)``.

    Args:
        scores: Score of each edge ``(H E,)`` in float32 or float64.
        edges: The edges.
    """
    if edges.degree:
        return scores.view(-1, edges.degree).softmax(dim=1).flatten()
    out: Tensor = _EdgeSoftmax.apply(scores, edges)
    return out


def _smallest_type(largest: int) -> torch.dtype:
    """Returns the smallest integer type, of 16 bits or more, that holds a number."""
    return next(t for t in (torch.int16, torch.int32, torch.int64) if largest <= torch.iinfo(t).max)


def _matrix(pointer: Tensor, index: Tensor, values: Tensor) -> Tensor:
    size = (pointer.numel() - 1,) * 2
    with warnings.catch_warnings():  # torch warns once that compressed rows are in beta
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
        return torch.sparse_csr_tensor(pointer, index, values, size, check_invariants=False)


def _weighted_sum(weight: Tensor, x: Tensor, edges: CompressedEdges, to_source: bool = False) -> Tensor:
    """Returns the weighted sum over the sources of each target, or the targets of each source, ``(H N, d)``."""
    pointer, index = edges.rowptr, edges.source
    if to_source:
        pointer, index = edges.colptr, edges.target_by_source
        weight = weight.view(edges.by_source.shape).gather(1, edges.by_source).flatten()
    if x.is_cuda:
        # A backward pass may run under autocast, but the product is in full precision.
        with torch.autocast(x.device.type, enabled=False):
            return torch.addmm(x, _matrix(pointer, index, weight), x, beta=0.0)  # `@` would first make zeros
    # The same sums in the same order. On a CPU a bag takes half the time of a product with a CSR tensor.
    return F.embedding_bag(
        index, x.detach(), pointer, mode="sum", per_sample_weights=weight.detach(), include_last_offset=True
    )


def _sampled_product(target_x: Tensor, source_x: Tensor, edges: CompressedEdges, scale: float) -> Tensor:
    """Returns the scaled inner product of both ends of each edge, ``(H E,)``."""
    pattern = _matrix(edges.rowptr, edges.source, target_x.new_zeros(edges.source.numel()))
    out: Tensor = torch.sparse.sampled_addmm(
        pattern, target_x, source_x.t(), beta=0.0, alpha=scale, out=pattern
    )
    return out.values()


class _HeadsAsNodes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parts: Tensor) -> tuple[Tensor, ...]:
        ctx.shape = parts.shape
        return parts.reshape(parts.size(0), -1, parts.size(-1)).unbind(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        parts, heads, num_nodes, size = ctx.shape
        # This is the memory order of the linear map's output, which reads it next: one copy instead of two.
        grad = grads[0].new_empty(num_nodes, parts, heads, size).permute(1, 2, 0, 3)
        for part, of_part in zip(grad, grads, strict=True):
            part.copy_(of_part.view(heads, num_nodes, size))
        return grad


class _EdgeDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, target_x: Tensor, source_x: Tensor, edges: CompressedEdges, scale: float) -> Tensor:
        ctx.save_for_backward(target_x, source_x)
        ctx.edges, ctx.scale = edges, scale
        return _sampled_product(target_x, source_x, edges, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        target_x, source_x = ctx.saved_tensors
        grad = ctx.scale * grad
        to_source = _weighted_sum(grad, target_x, ctx.edges, to_source=True)
        return _weighted_sum(grad, source_x, ctx.edges), to_source, None, None


class _EdgeSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, source_x: Tensor, edges: CompressedEdges) -> Tensor:
        ctx.save_for_backward(weight, source_x)
        ctx.edges = edges
        return _weighted_sum(weight, source_x, edges)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, source_x = ctx.saved_tensors
        grad = grad.contiguous()
        to_source = _weighted_sum(weight, grad, ctx.edges, to_source=True)
        return _sampled_product(grad, source_x, ctx.edges, 1.0), to_source, None


class _EdgeSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, edges: CompressedEdges) -> Tensor:
        target = edges.target
        largest = torch.segment_reduce(scores, "max", offsets=edges.rowptr)
        alpha = (scores - largest.index_select(0, target)).exp_()
        total = torch.segment_reduce(alpha, "sum", offsets=edges.rowptr)
        alpha /= total.index_select(0, target)
        ctx.save_for_backward(alpha, target, edges.rowptr)
        return alpha

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        alpha, target, rowptr = ctx.saved_tensors
        weighted = alpha * grad
        total = torch.segment_reduce(weighted, "sum", offsets=rowptr)
        return weighted.addcmul_(alpha, total.index_select(0, target), value=-1), None
