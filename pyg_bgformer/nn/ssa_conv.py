"""Structure-constrained self-attention: multi-head attention that follows the edges of a graph."""

from typing import Any, Literal, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import softmax

from pyg_bgformer.graph import nearest
from pyg_bgformer.nn.backend import Backend, check_backend, edge_mask, pick_backend, same_graph
from pyg_bgformer.nn.edge_ops import compress_edges, edge_dot, edge_softmax, edge_sum

Neighbours = Literal["graph", "scores"]


class SSAConv(MessagePassing):
    r"""Multi-head self-attention restricted to an edge set, from the `"BGFormer: Batch-Graph Transformer"
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
        - **output:** node features :math:`(N, D)`

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

    def forward(self, x: Tensor, edge_index: Tensor | None = None, batch: Tensor | None = None) -> Tensor:
        """Returns the attended features ``(N, D)``."""
        if (edge_index is None) != (self.neighbours == "scores"):
            raise ValueError("edge_index is needed with neighbours='graph' and only then")
        num_nodes = x.size(0)
        qkv = self.qkv(x).view(num_nodes, 3, self.heads, -1).permute(1, 2, 0, 3)  # (3, H, N, d)
        query, key, value = qkv.unbind(0)
        if edge_index is not None:
            out = self._attend(query, key, value, edge_index)
        else:
            out = self._attend_to_best(query, key, value, same_graph(batch, num_nodes, x.device))
        return self.proj(out.transpose(0, 1).reshape(num_nodes, self.in_channels))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, edge_index: Tensor) -> Tensor:
        """``(H, N, d)`` three times and one edge set for all heads ``-> (H, N, d)``."""
        num_nodes = query.size(1)
        backend = pick_backend(self.backend, edge_index, num_nodes)
        if backend == "dense":
            return self._attend_dense(query, key, value, edge_mask(edge_index, num_nodes))
        attend = self._attend_sparse if backend == "sparse" else self._attend_by_messages
        return attend(query, key, value, edge_index)

    def _attend_to_best(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor) -> Tensor:
        """As above, each head with its own neighbours: the best scores among the allowed pairs ``(N, N)``."""
        chosen = allowed.expand(self.heads, -1, -1)
        if self.k is not None and self.k < allowed.size(1):
            chosen = nearest(_scores(query, key).masked_fill_(~allowed, float("-inf")), self.k) & allowed
        if self.backend in ("auto", "dense"):  # all pairs have been scored: nothing is left to save
            mask = torch.zeros_like(chosen, dtype=torch.float32).masked_fill_(~chosen, float("-inf"))
            return self._attend_dense(query, key, value, mask[None])
        # Heads with edges of their own are one graph of H x N nodes with one head.
        head, receiver, sender = chosen.nonzero(as_tuple=True)
        edge_index = torch.stack([sender, receiver]) + head * query.size(1)
        query, key, value = (t.reshape(1, -1, t.size(2)) for t in (query, key, value))
        return self._attend(query, key, value, edge_index).view(self.heads, allowed.size(0), -1)

    def _attend_dense(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """``mask`` is ``(N, N)`` or ``(1, H, N, N)``: the attention kernels take no other shape."""
        alone = mask.amax(dim=-1, keepdim=True) == float("-inf")
        out = F.scaled_dot_product_attention(
            query[None],
            key[None],
            value[None],
            # A node without neighbours attends to all, so that no row is empty, and is then set to zero.
            attn_mask=mask.masked_fill_(alone, 0.0).to(query.dtype),
            dropout_p=self.dropout if self.training else 0.0,
        )
        return out.masked_fill(alone, 0.0)[0]

    def _attend_sparse(self, query: Tensor, key: Tensor, value: Tensor, edge_index: Tensor) -> Tensor:
        heads, num_nodes, size = query.shape
        edges = compress_edges(edge_index, num_nodes, heads)
        with torch.autocast(query.device.type, enabled=False):  # sparse products exist in full precision
            query, key, wide = (t.to(_wide(t.dtype)).reshape(-1, size) for t in (query, key, value))
            alpha = edge_softmax(edge_dot(query, key, edges) / size**0.5, edges)
            alpha = F.dropout(alpha, self.dropout, self.training)
            return edge_sum(alpha, wide, edges).to(value.dtype).view(heads, num_nodes, size)

    def _attend_by_messages(self, query: Tensor, key: Tensor, value: Tensor, edge_index: Tensor) -> Tensor:
        query, key, value = (t.transpose(0, 1) for t in (query, key, value))  # (N, H, d)
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
def _scores(query: Tensor, key: Tensor) -> Tensor:
    """``(H, N, N)`` to choose by; outside autocast, whose half precision would invent ties."""
    wide = _wide(query.dtype)
    with torch.autocast(query.device.type, enabled=False):
        return query.to(wide) @ key.to(wide).transpose(1, 2)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
