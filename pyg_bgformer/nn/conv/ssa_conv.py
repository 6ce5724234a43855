"""Structure-constrained self-attention: multi-head attention along the edges of a graph."""

from typing import Any, Literal, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import softmax

from pyg_bgformer.errors import InputError, check_choice, check_range
from pyg_bgformer.graph import mask_to_edges, nearest
from pyg_bgformer.nn.ops import (
    NO_SPARSE,
    Backend,
    check_heads,
    compress_edges,
    edge_counts,
    edge_dot,
    edge_mask,
    edge_softmax,
    edge_sum,
    heads_as_nodes,
    not_compiled,
    pick_backend,
    same_graph,
)
from pyg_bgformer.precision import wide

Neighbours = Literal["graph", "scores"]
"""Where a layer's edges come from: the caller gives them (``graph``), or the layer chooses them (``scores``)."""


class SSAConv(MessagePassing):
    r"""The structure-constrained self-attention of BGFormer, multi-head attention along the edges of a graph, from
    the `"Rethinking Batch Sample Relationships for Data Representation: A Batch-Graph Transformer based Approach"
    <https://arxiv.org/abs/2211.10622>`_ paper.

    .. math::
        \mathbf{x}^{\prime}_i = \mathbf{W}_o \Big\Vert_{h=1}^{H} \sum_{j \in \mathcal{N}(i)}
        \alpha^h_{ij} \mathbf{v}^h_j + \mathbf{b}_o, \qquad
        \alpha^h_{ij} = \underset{j \in \mathcal{N}(i)}{\textrm{softmax}}
        \left( {\mathbf{q}^h_i}^{\top} \mathbf{k}^h_j / \sqrt{D / H} \right)

    where one linear map of :math:`\mathbf{x}` gives :math:`\mathbf{q}, \mathbf{k}, \mathbf{v}`. With
    ``neighbours="graph"`` the caller gives the neighbourhoods :math:`\mathcal{N}(i)`. With ``"scores"``, as in the
    authors' code, each head chooses the :math:`k` nodes with the highest scores, and gradients flow through these
    scores only. A node without neighbours gets :math:`\mathbf{b}_o`. An edge that is given twice counts twice.

    Args:
        in_channels (int): Size :math:`D` of each sample, a multiple of ``heads``.
        heads (int): Number of attention heads. (default: :obj:`8`)
        dropout (float): Probability of dropping an attention weight in training, in [0, 1). (default: :obj:`0.`)
        neighbours (str): ``"graph"`` or ``"scores"``. (default: ``"graph"``)
        k (int, optional): With ``"scores"``, the number of neighbours of each node and head, at least 1.
            :obj:`None` keeps all, which is ordinary self-attention over the batch. (default: :obj:`None`)
        backend (str): See :obj:`~pyg_bgformer.nn.ops.Backend`. (default: ``"auto"``)
        **kwargs (optional): Additional arguments of :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **input:** node features :math:`(N, D)`, edge indices :math:`(2, E)` (only with ``"graph"``), batch
          vector :math:`(N)` *(optional; used only with* ``"scores"`` *)*
        - **output:** node features :math:`(N, D)` or, with ``return_attention_weights``, :math:`((N, D), ((2, E),
          (E, H)))`

    Raises:
        InputError: If ``heads`` does not divide ``in_channels``, an option is out of its range, or ``k`` is given
            without ``"scores"``. In the forward pass: if edges are missing (``"graph"``) or given (``"scores"``).
    """

    def __init__(
        self,
        in_channels: int,
        heads: int = 8,
        dropout: float = 0.0,
        neighbours: Neighbours = "graph",
        k: int | None = None,
        backend: Backend = "auto",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("aggr", "add")
        super().__init__(node_dim=0, **kwargs)
        check_heads(in_channels, heads)
        check_range("dropout", dropout, at_least=0, below=1)
        check_neighbours(neighbours, k)
        check_choice("backend", backend, ("auto", "message", "sparse", "dense"))
        self.in_channels = in_channels
        self.heads = heads
        self.dropout = dropout
        self.neighbours = neighbours
        self.k = k
        self.backend: Backend = backend
        self.qkv = nn.Linear(in_channels, 3 * in_channels)
        self.proj = nn.Linear(in_channels, in_channels)

    def reset_parameters(self) -> None:
        """Resets all parameters to random initial values."""
        super().reset_parameters()
        self.qkv.reset_parameters()
        self.proj.reset_parameters()

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        batch: Tensor | None = None,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns the new features ``(N, D)``.

        With ``return_attention_weights`` it also returns the edges ``(2, E)`` and their weights ``(E, H)``, before
        dropout and without gradient. With ``neighbours="scores"`` the edges are those that at least one head has
        chosen. For a head that has not chosen an edge, its weight is 0.
        """
        check_edges(self.neighbours, edge_index)
        num_nodes = x.size(0)
        qkv = self.qkv(x).view(num_nodes, 3, self.heads, -1).permute(1, 2, 0, 3)  # (3, H, N, d)
        if edge_index is not None:
            out = self._attend(qkv, edge_index)
        else:
            chosen = self._best(qkv, same_graph(batch, num_nodes, x.device))  # (H, N, N)
            out = self._attend_to_best(qkv, chosen)
        out = self.proj(out.transpose(0, 1).reshape(num_nodes, self.in_channels))
        if not return_attention_weights:
            return out
        if edge_index is not None:
            return out, (edge_index, self._weights(qkv, edge_index))
        edge_index = mask_to_edges(chosen.any(dim=0))
        source, target = edge_index
        scores = _scores(qkv).masked_fill(~chosen, -torch.inf)[:, target, source].t()
        return out, (edge_index, softmax(scores / qkv.size(-1) ** 0.5, target, num_nodes=num_nodes))

    @torch.no_grad()
    def _weights(self, qkv: Tensor, edge_index: Tensor) -> Tensor:
        """Returns the weights ``(E, H)`` of edges that the caller gave."""
        num_nodes, (source, target) = qkv.size(2), edge_index
        if pick_backend(self.backend, edge_index, num_nodes) == "dense":
            scores = _scores(qkv)[:, target, source].t()
        else:
            query, key = wide(qkv[:2].transpose(1, 2))
            scores = (query[target] * key[source]).sum(dim=-1)
        return softmax(scores / qkv.size(-1) ** 0.5, target, num_nodes=num_nodes)

    def _attend(self, qkv: Tensor, edge_index: Tensor) -> Tensor:
        """Returns ``(H, N, d)`` from ``(3, H, N, d)`` along the same edges for all heads."""
        num_nodes = qkv.size(2)
        backend = pick_backend(self.backend, edge_index, num_nodes)
        if backend == "dense":
            dtype = torch.promote_types(qkv.dtype, torch.float32)
            return self._attend_dense(qkv, edge_mask(edge_counts(edge_index, num_nodes, dtype)))
        return self._attend_sparse(qkv, edge_index) if backend == "sparse" else self._pass(qkv, edge_index)

    def _attend_to_best(self, qkv: Tensor, chosen: Tensor) -> Tensor:
        """Returns ``(H, N, d)`` from ``(3, H, N, d)`` and the neighbours of each head ``(H, N, N)``."""
        if self.backend in (
            "auto",
            "dense",
        ):  # all pairs have been scored, so a sparse path would save nothing
            mask = torch.zeros_like(chosen, dtype=torch.float32).masked_fill_(~chosen, -torch.inf)
            return self._attend_dense(qkv, mask[None])
        # Each head has its own edges. Together they are the edges of one graph of H x N nodes with one head.
        head, target, source = chosen.nonzero(as_tuple=True)
        edge_index = torch.stack([source, target]) + head * qkv.size(2)
        return self._attend(qkv.flatten(1, 2)[:, None], edge_index).view(qkv.shape[1:])

    def _best(self, qkv: Tensor, allowed: Tensor) -> Tensor:
        """Returns a mask ``(H, N, N)``: whether the node of the row attends to the node of the column in a head."""
        if self.k is None or self.k >= allowed.size(1):
            return allowed.expand(self.heads, -1, -1)
        return nearest(_scores(qkv).masked_fill_(~allowed, -torch.inf), self.k) & allowed

    def _attend_dense(self, qkv: Tensor, mask: Tensor) -> Tensor:
        """Returns ``(H, N, d)`` by a mask ``(N, N)`` or ``(1, H, N, N)``. Attention kernels take no other shape."""
        alone = mask.amax(dim=-1, keepdim=True) == -torch.inf
        query, key, value = qkv[:, None].unbind(0)
        # An empty row would give NaN. So a node without neighbours attends to all nodes, and is then set to zero.
        mask = mask.masked_fill_(alone, 0.0).to(qkv.dtype)
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return out.masked_fill(alone, 0.0)[0]

    @not_compiled(NO_SPARSE)
    def _attend_sparse(self, qkv: Tensor, edge_index: Tensor) -> Tensor:
        _, heads, num_nodes, size = qkv.shape
        edges = compress_edges(edge_index, num_nodes, heads)
        with torch.autocast(qkv.device.type, enabled=False):  # sparse products need full precision
            query, key, value = heads_as_nodes(wide(qkv))
            alpha = edge_softmax(edge_dot(query, key, edges, scale=size**-0.5), edges)
            alpha = F.dropout(alpha, self.dropout, self.training)
            return edge_sum(alpha, value, edges).to(qkv.dtype).view(heads, num_nodes, size)

    def _pass(self, qkv: Tensor, edge_index: Tensor) -> Tensor:
        query, key, value = qkv.transpose(1, 2).unbind(0)  # (N, H, d)
        alpha = self.edge_updater(edge_index, query=query, key=key)
        size = (value.size(0), value.size(0))
        return self.propagate(edge_index, value=value, alpha=alpha, size=size).transpose(0, 1)

    # PyG reads these annotations. It understands Optional[...], but not `... | None`.
    def edge_update(
        self,
        query_i: Tensor,
        key_j: Tensor,
        index: Tensor,
        ptr: Optional[Tensor],  # noqa: UP045
        size_i: Optional[int],  # noqa: UP045
    ) -> Tensor:
        """Returns the attention weight of each edge, ``(E, H)``."""
        scores = (query_i * key_j).sum(dim=-1) / query_i.size(-1) ** 0.5
        alpha = softmax(scores, index, ptr, size_i)
        return F.dropout(alpha, self.dropout, self.training)

    def message(self, value_j: Tensor, alpha: Tensor) -> Tensor:
        """Returns the weighted value that each edge carries, ``(E, H, d)``."""
        return alpha.unsqueeze(-1) * value_j

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.in_channels}, heads={self.heads})"


def check_neighbours(neighbours: str, k: int | None) -> None:
    """Raises an error for an unknown choice of neighbours, or a ``k`` that does not fit it.

    Args:
        neighbours: See :obj:`Neighbours`.
        k: Number of neighbours that the layer chooses.

    Raises:
        InputError: If ``neighbours`` is unknown, or ``k`` is below 1 or given although the layer chooses none.
    """
    check_choice("neighbours", neighbours, ("graph", "scores"))
    if k is not None and (neighbours == "graph" or k < 1):
        raise InputError(f"k needs neighbours='scores' and must be at least 1, found {k}")


def check_edges(neighbours: Neighbours, edge_index: Tensor | None) -> None:
    """Raises an error if a layer needs edges and gets none, or chooses edges itself and gets some.

    Args:
        neighbours: See :obj:`Neighbours`.
        edge_index: The edges that the caller gave.

    Raises:
        InputError: If the two do not fit.
    """
    if edge_index is None and neighbours == "graph":
        raise InputError("neighbours='graph' needs edge_index; build the graph with batch_graph(x, y)")
    if edge_index is not None and neighbours == "scores":
        raise InputError("neighbours='scores' chooses the edges itself; leave edge_index out")


@torch.no_grad()
def _scores(qkv: Tensor) -> Tensor:
    """Returns the scores ``(H, N, N)`` of all pairs, outside autocast: half precision would make some equal."""
    with torch.autocast(qkv.device.type, enabled=False):
        query, key = wide(qkv[:2])
        return query @ key.transpose(1, 2)
