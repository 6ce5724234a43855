"""The two layers by which GCA-HNG's nodes and edges exchange what they know, over all ordered pairs of a batch."""

from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from pyg_bgformer.nn.conv.margin_attention_conv import MarginBackend, complete_edges

GCABackend = MarginBackend
"""How GCA-HNG computes; both give the same numbers. ``message``: PyG message passing, the definition. ``dense``:
over one :math:`(N, N, D)` tensor, exact because every pair is an edge; it is what ``auto`` runs."""


class EdgeToNodeConv(MessagePassing):
    r"""What a node learns from its edges in GCA-HNG.

    .. math::
        \mathbf{x}^{\prime}_r = \sum_{c=1}^{N} \textrm{GELU}(\mathbf{W} \mathbf{e}_{rc} + \mathbf{b})

    over *all* edges whose first index is the node, those to itself and to its own class included.

    Args:
        in_channels (int): Size :math:`D` of each edge's features.
        backend (str): See :obj:`GCABackend`. (default: ``"auto"``)

    Shapes:
        - **input:** edge features :math:`(N, N, D)`, first index first
        - **output:** node features :math:`(N, D)`
    """

    def __init__(self, in_channels: int, backend: GCABackend = "auto", **kwargs: Any) -> None:
        kwargs.setdefault("aggr", "add")
        super().__init__(node_dim=0, **kwargs)
        _check(backend)
        self.backend: GCABackend = backend
        self.lin = nn.Linear(in_channels, in_channels)

    def forward(self, edge_attr: Tensor) -> Tensor:
        """Returns the sums ``(N, D)``."""
        if self.backend != "message":
            return F.gelu(self.lin(edge_attr)).sum(dim=1)
        num_nodes = edge_attr.size(0)
        edge_index = _pairs(edge_attr)
        return self.propagate(edge_index, edge_attr=edge_attr.flatten(0, 1), size=(num_nodes, num_nodes))

    def message(self, edge_attr: Tensor) -> Tensor:
        """What each edge tells its first node, ``(E, D)``."""
        return F.gelu(self.lin(edge_attr))


class NodeToEdgeAttention(MessagePassing):
    r"""What an edge learns from its two nodes in GCA-HNG: attention of the edge over both.

    .. math::
        \mathbf{e}^{\prime}_{rc} = w_r \mathbf{W}_v \mathbf{t}_r + w_c \mathbf{W}_v \mathbf{t}_c, \qquad
        (w_r, w_c) = \textrm{softmax} \left( \frac{\langle \mathbf{W}_q \mathbf{e}_{rc}, \mathbf{W}_k
        \mathbf{t}_r \rangle}{\sqrt{D}}, \frac{\langle \mathbf{W}_q \mathbf{e}_{rc}, \mathbf{W}_k \mathbf{t}_c
        \rangle}{\sqrt{D}} \right)

    with :math:`\mathbf{t} = \textrm{GELU}(\mathbf{W}_t \mathbf{x})`. All maps have biases.

    Args:
        in_channels (int): Size :math:`D` of nodes and edges.
        dropout (float): Probability of dropping each of the two weights. The pairs :math:`(r, c)` and
            :math:`(c, r)` then differ in training. (default: :obj:`0.1`)
        backend (str): See :obj:`GCABackend`. (default: ``"auto"``)

    Shapes:
        - **input:** node features :math:`(N, D)`, edge features :math:`(N, N, D)`, first index first
        - **output:** edge features :math:`(N, N, D)` or, with ``return_attention_weights``, :math:`((N, N, D),
          ((2, N^2), (N^2, 2)))`

    Raises:
        ValueError: If ``dropout`` is not in [0, 1).
    """

    def __init__(
        self, in_channels: int, dropout: float = 0.1, backend: GCABackend = "auto", **kwargs: Any
    ) -> None:
        super().__init__(node_dim=0, **kwargs)
        _check(backend)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), found {dropout}")
        self.dropout = dropout
        self.backend: GCABackend = backend
        self.lin_node = nn.Linear(in_channels, in_channels)
        self.lin_query = nn.Linear(in_channels, in_channels)
        self.lin_key = nn.Linear(in_channels, in_channels)
        self.lin_value = nn.Linear(in_channels, in_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all parameters anew."""
        super().reset_parameters()
        self.lin_node.reset_parameters()
        for linear in (self.lin_query, self.lin_key, self.lin_value):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self, x: Tensor, edge_attr: Tensor, return_attention_weights: bool = False
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns the new edge features ``(N, N, D)``.

        With ``return_attention_weights`` also all pairs of nodes, row-major, and the weights that each gives to its
        first and its second node: before dropout and without gradient.
        """
        nodes = F.gelu(self.lin_node(x))
        query, key, value = self.lin_query(edge_attr), self.lin_key(nodes), self.lin_value(nodes)
        if self.backend == "message":
            edge_index = _pairs(edge_attr)
            out = self.edge_updater(edge_index, query=query.flatten(0, 1), key=key, value=value)
            out = out.view_as(edge_attr)
        else:
            weight = F.dropout(self._weights(*_products(query, key)), self.dropout, self.training)
            out = weight[..., :1] * value[:, None] + weight[..., 1:] * value[None, :]
        if not return_attention_weights:
            return out
        weight = self._weights(*_products(query.detach(), key.detach()))
        return out, (_pairs(edge_attr).flip(0), weight.flatten(0, 1))

    def edge_update(
        self, query: Tensor, key_i: Tensor, key_j: Tensor, value_i: Tensor, value_j: Tensor
    ) -> Tensor:
        """New features of each edge, ``(E, D)``."""
        weight = self._weights((query * key_i).sum(dim=-1), (query * key_j).sum(dim=-1))
        weight = F.dropout(weight, self.dropout, self.training)
        return weight[..., :1] * value_i + weight[..., 1:] * value_j

    def _weights(self, first: Tensor, second: Tensor) -> Tensor:
        """Inner products with an edge's two nodes -> their weights ``(..., 2)``."""
        scores = torch.stack([first, second], dim=-1) / self.lin_query.in_features**0.5
        return scores.softmax(dim=-1)


def _products(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Inner products ``(N, N)`` of pairs ``(N, N, D)`` with their first and second nodes ``(N, D)``."""
    return torch.einsum("rcd,rd->rc", query, key), torch.einsum("rcd,cd->rc", query, key)


def _pairs(edge_attr: Tensor) -> Tensor:
    """Edges ``(2, N * N)`` in the order of ``edge_attr.flatten(0, 1)``; an edge's first index receives."""
    return complete_edges(edge_attr.size(0), device=edge_attr.device).flip(0)


def _check(backend: str) -> None:
    if backend not in get_args(GCABackend):
        raise ValueError(f"backend must be one of {', '.join(get_args(GCABackend))}; found {backend!r}")
