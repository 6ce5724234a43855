"""The two layers of GCA-HNG in which nodes and edges exchange features, over all ordered pairs of a batch."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from pyg_bgformer.errors import check_choice, check_range
from pyg_bgformer.nn.conv.margin_attention_conv import MarginBackend
from pyg_bgformer.nn.ops import complete_edges


class EdgeToNodeConv(MessagePassing):
    r"""The sum of messages from the edges of a node in GCA-HNG, from the `"Globally Correlation-Aware Hard Negative
    Generation" <https://doi.org/10.1007/s11263-024-02288-0>`_ paper.

    .. math::
        \mathbf{x}^{\prime}_r = \sum_{c=1}^{N} \textrm{GELU}(\mathbf{W} \mathbf{e}_{rc} + \mathbf{b})

    The sum is over *all* edges whose first index is the node, including those to itself and to its own class.

    Args:
        in_channels (int): Size :math:`D` of each edge's features.
        backend (str): See :obj:`~pyg_bgformer.nn.conv.margin_attention_conv.MarginBackend`. (default: ``"auto"``)
        **kwargs (optional): Additional arguments of :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **input:** edge features :math:`(N, N, D)`, first index first
        - **output:** node features :math:`(N, D)`

    Raises:
        InputError: If ``backend`` is unknown.
    """

    def __init__(self, in_channels: int, backend: MarginBackend = "auto", **kwargs: Any) -> None:
        kwargs.setdefault("aggr", "add")
        super().__init__(node_dim=0, **kwargs)
        check_choice("backend", backend, ("auto", "message", "dense"))
        self.backend: MarginBackend = backend
        self.lin = nn.Linear(in_channels, in_channels)

    def forward(self, edge_attr: Tensor) -> Tensor:
        """Returns the sums ``(N, D)``."""
        if self.backend != "message":
            return F.gelu(self.lin(edge_attr)).sum(dim=1)
        num_nodes = edge_attr.size(0)
        # The messages go to an edge's first index, so that is its target.
        edge_index = complete_edges(num_nodes, device=edge_attr.device).flip(0)
        return self.propagate(edge_index, edge_attr=edge_attr.flatten(0, 1), size=(num_nodes, num_nodes))

    def message(self, edge_attr: Tensor) -> Tensor:
        """Returns the message of each edge to its first node, ``(E, D)``."""
        return F.gelu(self.lin(edge_attr))


class NodeToEdgeAttention(MessagePassing):
    r"""The attention of an edge over its two nodes in GCA-HNG, from the `"Globally Correlation-Aware Hard Negative
    Generation" <https://doi.org/10.1007/s11263-024-02288-0>`_ paper.

    .. math::
        \mathbf{e}^{\prime}_{rc} = w_r \mathbf{W}_v \mathbf{t}_r + w_c \mathbf{W}_v \mathbf{t}_c, \qquad
        (w_r, w_c) = \textrm{softmax} \left( \frac{\langle \mathbf{W}_q \mathbf{e}_{rc}, \mathbf{W}_k
        \mathbf{t}_r \rangle}{\sqrt{D}}, \frac{\langle \mathbf{W}_q \mathbf{e}_{rc}, \mathbf{W}_k \mathbf{t}_c
        \rangle}{\sqrt{D}} \right)

    with :math:`\mathbf{t} = \textrm{GELU}(\mathbf{W}_t \mathbf{x})`. All linear maps have biases. There is a single
    attention head.

    Args:
        in_channels (int): Size :math:`D` of nodes and edges.
        dropout (float): Probability of dropping each of the two weights in training, in [0, 1). It makes the edges
            :math:`(r, c)` and :math:`(c, r)` differ. (default: :obj:`0.1`)
        backend (str): See :obj:`~pyg_bgformer.nn.conv.margin_attention_conv.MarginBackend`. (default: ``"auto"``)
        **kwargs (optional): Additional arguments of :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **input:** node features :math:`(N, D)`, edge features :math:`(N, N, D)`, first index first
        - **output:** edge features :math:`(N, N, D)` or, with ``return_attention_weights``, :math:`((N, N, D),
          ((2, N^2), (N^2, 2)))`

    Raises:
        InputError: If ``dropout`` is not in [0, 1), or ``backend`` is unknown.
    """

    def __init__(
        self, in_channels: int, dropout: float = 0.1, backend: MarginBackend = "auto", **kwargs: Any
    ) -> None:
        super().__init__(node_dim=0, **kwargs)
        check_range("dropout", dropout, at_least=0, below=1)
        check_choice("backend", backend, ("auto", "message", "dense"))
        self.dropout = dropout
        self.backend: MarginBackend = backend
        self.lin_node = nn.Linear(in_channels, in_channels)
        self.lin_query = nn.Linear(in_channels, in_channels)
        self.lin_key = nn.Linear(in_channels, in_channels)
        self.lin_value = nn.Linear(in_channels, in_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Resets all parameters to random initial values."""
        super().reset_parameters()
        self.lin_node.reset_parameters()
        for linear in (self.lin_query, self.lin_key, self.lin_value):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self, x: Tensor, edge_attr: Tensor, return_attention_weights: bool = False
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns the new edge features ``(N, N, D)``.

        With ``return_attention_weights`` it also returns all pairs of nodes ``(2, N^2)``, row-major, and the
        weights ``(N^2, 2)`` of their first and second nodes, before dropout and without gradient.
        """
        nodes = F.gelu(self.lin_node(x))
        query, key, value = self.lin_query(edge_attr), self.lin_key(nodes), self.lin_value(nodes)
        pairs = complete_edges(x.size(0), device=x.device)
        if self.backend == "message":  # the first index of an edge is its target
            out = self.edge_updater(pairs.flip(0), query=query.flatten(0, 1), key=key, value=value)
            out = out.view_as(edge_attr)
        else:
            weight = F.dropout(self._weights(*_products(query, key)), self.dropout, self.training)
            out = weight[..., :1] * value[:, None] + weight[..., 1:] * value[None, :]
        if not return_attention_weights:
            return out
        return out, (pairs, self._weights(*_products(query.detach(), key.detach())).flatten(0, 1))

    def edge_update(
        self, query: Tensor, key_i: Tensor, key_j: Tensor, value_i: Tensor, value_j: Tensor
    ) -> Tensor:
        """Returns the new features of each edge, ``(E, D)``."""
        weight = self._weights((query * key_i).sum(dim=-1), (query * key_j).sum(dim=-1))
        weight = F.dropout(weight, self.dropout, self.training)
        return weight[..., :1] * value_i + weight[..., 1:] * value_j

    def _weights(self, first: Tensor, second: Tensor) -> Tensor:
        """Returns the weights ``(..., 2)`` of the two nodes of each edge, from its inner products with them."""
        scores = torch.stack([first, second], dim=-1) / self.lin_query.in_features**0.5
        return scores.softmax(dim=-1)


def _products(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the inner products ``(N, N)`` of pairs ``(N, N, D)`` with their first and second nodes ``(N, D)``."""
    return torch.einsum("rcd,rd->rc", query, key), torch.einsum("rcd,cd->rc", query, key)
