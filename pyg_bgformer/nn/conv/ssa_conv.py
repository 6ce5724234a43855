"""Structure-constrained self-attention: multi-head attention that follows the edges of a graph."""

from typing import Any, Literal, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import softmax

from pyg_bgformer.graph import nearest
from pyg_bgformer.nn.backend import Backend, check_backend, edge_mask, pick_backend, same_graph
from pyg_bgformer.nn.ops import compress_edges, edge_dot, edge_softmax, edge_sum

Neighbours = Literal["graph", "scores"]


class SSAConv(MessagePassing):
    r"""Multi-head self-attention restricted to an edge set, the layer of BGFormer from the `"Rethinking Batch
    Sample Relationships for Data Representation: A Batch-Graph Transformer based Approach"
    <https://arxiv.org/abs/2211.10622>`_ paper.

    .. math::
        \mathbf{x}^{\prime}_i = \mathbf{W}_o \Big\Vert_{h=1}^{H} \sum_{j \in \mathcal{N}(i)}
        \alpha^h_{ij} \mathbf{v}^h_j + \mathbf{b}_o, \qquad
        \alpha^h_{ij} = \underset{j \in \mathcal{N}(i)}{\textrm{softmax}}
        \left( {\mathbf{q}^h_i}^{\top} \mathbf{k}^h_j / \sqrt{D / H} \right)

    where :math:`\mathbf{q}, \mathbf{k}, \mathbf{v}` are one linear map of :math:`\mathbf{x}`. The neighbourhood
    :math:`\mathcal{N}(i)` is given (``neighbours="graph"``) or, as in the original, the :math:`k` highest
    scores of each head (``"scores"``; gradients flow through the kept scores only). A node without neighbours
    gets :math:`\mathbf{b}_o`; an edge given twice counts twice.

    Args:
        in_channels (int): Size :math:`D` of each sample, a multiple of ``heads``.
        heads (int): Attention heads. (default: :obj:`8`)
        dropout (float): Probability of dropping an attention weight in training. (default: :obj:`0.`)
        bias (bool): Whether the linear maps have biases. (default: :obj:`True`)
        neighbours (str): ``"graph"`` or ``"scores"``. (default: ``"graph"``)
        k (int, optional): With ``"scores"``, the neighbours kept per node and head; :obj:`None` keeps all, which
            is ordinary self-attention over the batch. (default: :obj:`None`)
        backend (str): See :obj:`~pyg_bgformer.nn.backend.Backend`. (default: ``"auto"``)

    Shapes:
        - **input:** node features :math:`(N, D)`, edge indices :math:`(2, E)` (only with ``"graph"``), batch
          vector :math:`(N)` *(optional; only used with* ``"scores"`` *)*
        - **output:** node features :math:`(N, D)` or, with ``return_attention_weights``, :math:`((N, D), ((2, E),
          (E, H)))`

    Raises:
        ValueError: If ``heads`` does not divide ``in_channels``, ``k`` is given without ``"scores"`` or below 1,
            ``dropout`` is not in [0, 1), or edges are missing (``"graph"``) or given (``"scores"``).
    """

    def __init__(
        self,
        in_channels: int,
        heads: int = 8,
        dropout: float = 0.0,
        bias: bool = True,
        neighbours: Neighbours = "graph",
        k: int | None = None,
        backend: Backend = "auto",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("aggr", "add")
        super().__init__(node_dim=0, **kwargs)
        check_backend(backend)
        if heads < 1 or in_channels % heads != 0:
            raise ValueError(f"heads must divide in_channels: found {heads} heads, {in_channels} channels")
        if neighbours not in ("graph", "scores"):
            raise ValueError(f"neighbours must be 'graph' or 'scores', found {neighbours!r}")
        if k is not None and (neighbours == "graph" or k < 1):
            raise ValueError(f"k goes with neighbours='scores' and is at least 1, found {k}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), found {dropout}")
        self.in_channels = in_channels
        self.heads = heads
        self.dropout = dropout
        self.neighbours = neighbours
        self.k = k
        self.backend: Backend = backend
        self.qkv = nn.Linear(in_channels, 3 * in_channels, bias=bias)
        self.proj = nn.Linear(in_channels, in_channels, bias=bias)

    def reset_parameters(self) -> None:
        """Draws all parameters anew."""
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
        """Returns the attended features ``(N, D)``.

        With ``return_attention_weights`` also the edges ``(2, E)``, with ``neighbours="scores"`` those that any
        head has chosen, and their weights ``(E, H)``: before dropout, without gradient, 0 where a head has not
        chosen the edge.
        """
        if (edge_index is None) != (self.neighbours == "scores"):
            raise ValueError("edge_index is needed with neighbours='graph' and only then")
        num_nodes = x.size(0)
        qkv = self.qkv(x).view(num_nodes, 3, self.heads, -1).permute(1, 2, 0, 3)  # (3, H, N, d)
        if edge_index is not None:
            out = self._attend(qkv, edge_index)
        else:
            out = self._attend_to_best(qkv, same_graph(batch, num_nodes, x.device))
        out = self.proj(out.transpose(0, 1).reshape(num_nodes, self.in_channels))
        return (out, self._weights(qkv[:2], edge_index, batch)) if return_attention_weights else out

    @torch.no_grad()
    def _weights(
        self, query_key: Tensor, edge_index: Tensor | None, batch: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """``(2, H, N, d) ->`` edges ``(2, E)`` and weights ``(E, H)``."""
        num_nodes = query_key.size(2)
        if edge_index is None:
            chosen = self._best(query_key, same_graph(batch, num_nodes, query_key.device))
            edge_index = chosen.any(dim=0).nonzero().t().flip(0)
            scores = _along(_scores(query_key).masked_fill(~chosen, float("-inf")), edge_index)
        elif pick_backend(self.backend, edge_index, num_nodes) == "dense":
            scores = _along(_scores(query_key), edge_index)
        else:
            query, key = query_key.transpose(1, 2).to(_wide(query_key.dtype))
            scores = (query[edge_index[1]] * key[edge_index[0]]).sum(dim=-1)
        return edge_index, softmax(scores / query_key.size(-1) ** 0.5, edge_index[1], num_nodes=num_nodes)

    def _attend(self, qkv: Tensor, edge_index: Tensor) -> Tensor:
        """``(3, H, N, d)`` and one edge set for all heads ``-> (H, N, d)``."""
        num_nodes = qkv.size(2)
        backend = pick_backend(self.backend, edge_index, num_nodes)
        if backend == "dense":
            return self._attend_dense(qkv, edge_mask(edge_index, num_nodes))
        return (
            self._attend_sparse(qkv, edge_index)
            if backend == "sparse"
            else self._by_messages(qkv, edge_index)
        )

    def _attend_to_best(self, qkv: Tensor, allowed: Tensor) -> Tensor:
        """As above, each head with its own neighbours: the best scores among the allowed pairs ``(N, N)``."""
        chosen = self._best(qkv, allowed)
        if self.backend in ("auto", "dense"):  # all pairs have been scored: nothing is left to save
            mask = torch.zeros_like(chosen, dtype=torch.float32).masked_fill_(~chosen, float("-inf"))
            return self._attend_dense(qkv, mask[None])
        # Heads with edges of their own are one graph of H x N nodes with one head.
        head, receiver, sender = chosen.nonzero(as_tuple=True)
        edge_index = torch.stack([sender, receiver]) + head * qkv.size(2)
        return self._attend(qkv.flatten(1, 2)[:, None], edge_index).view(qkv.shape[1:])

    def _best(self, qkv: Tensor, allowed: Tensor) -> Tensor:
        """``(H, N, N)``: whether a head attends from the node of the row to that of the column."""
        if self.k is None or self.k >= allowed.size(1):
            return allowed.expand(self.heads, -1, -1)
        return nearest(_scores(qkv).masked_fill_(~allowed, float("-inf")), self.k) & allowed

    def _attend_dense(self, qkv: Tensor, mask: Tensor) -> Tensor:
        """``mask`` is ``(N, N)`` or ``(1, H, N, N)``: the attention kernels take no other shape."""
        alone = mask.amax(dim=-1, keepdim=True) == float("-inf")
        query, key, value = qkv[:, None].unbind(0)
        # A node without neighbours attends to all, so that no row is empty, and is then set to zero.
        mask = mask.masked_fill_(alone, 0.0).to(qkv.dtype)
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return out.masked_fill(alone, 0.0)[0]

    def _attend_sparse(self, qkv: Tensor, edge_index: Tensor) -> Tensor:
        _, heads, num_nodes, size = qkv.shape
        edges = compress_edges(edge_index, num_nodes, heads)
        with torch.autocast(qkv.device.type, enabled=False):  # sparse products exist in full precision
            query, key, value = qkv.to(_wide(qkv.dtype)).reshape(3, -1, size).unbind(0)
            alpha = edge_softmax(edge_dot(query, key, edges) / size**0.5, edges)
            alpha = F.dropout(alpha, self.dropout, self.training)
            return edge_sum(alpha, value, edges).to(qkv.dtype).view(heads, num_nodes, size)

    def _by_messages(self, qkv: Tensor, edge_index: Tensor) -> Tensor:
        query, key, value = qkv.transpose(1, 2).unbind(0)  # (N, H, d)
        alpha = self.edge_updater(edge_index, query=query, key=key)
        size = (value.size(0), value.size(0))
        return self.propagate(edge_index, value=value, alpha=alpha, size=size).transpose(0, 1)

    # PyG reads these annotations and knows Optional[...], not `... | None`.
    def edge_update(
        self,
        query_i: Tensor,
        key_j: Tensor,
        index: Tensor,
        ptr: Optional[Tensor],  # noqa: UP045
        size_i: Optional[int],  # noqa: UP045
    ) -> Tensor:
        """Attention weight of each edge, ``(E, H)``."""
        scores = (query_i * key_j).sum(dim=-1) / query_i.size(-1) ** 0.5
        alpha = softmax(scores, index, ptr, size_i)
        return F.dropout(alpha, self.dropout, self.training)

    def message(self, value_j: Tensor, alpha: Tensor) -> Tensor:
        """The weighted value that each edge carries, ``(E, H, d)``."""
        return alpha.unsqueeze(-1) * value_j

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.in_channels}, heads={self.heads})"


@torch.no_grad()
def _scores(qkv: Tensor) -> Tensor:
    """``(H, N, N)`` to choose by; outside autocast, whose half precision would invent ties."""
    with torch.autocast(qkv.device.type, enabled=False):
        query, key = qkv[:2].to(_wide(qkv.dtype))
        return query @ key.transpose(1, 2)


def _along(scores: Tensor, edge_index: Tensor) -> Tensor:
    """``(H, N, N) -> (E, H)``."""
    sender, receiver = edge_index
    return scores[:, receiver, sender].t()


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
