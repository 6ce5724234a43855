"""The attention of Intra-Batch Connections, whose softmax can also attend to nothing."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import softmax

from pyg_bgformer.errors import InputError, check_choice, check_range
from pyg_bgformer.nn.ops import check_heads, complete_edges, edge_counts, edge_mask

MarginBackend = Literal["auto", "message", "dense"]
"""How a layer over all pairs of nodes computes. Both backends give the same numbers.

``message``: PyG message passing, one message for each edge; this is the definition. ``dense``: matrix products over
all pairs of nodes. ``auto``: ``dense``, but ``message`` for given edges of more than 8192 nodes."""

DENSE_UP_TO = 8192
"""Largest number of nodes with which ``auto`` is dense for given edges. Dense memory grows with its square."""


class MarginAttentionConv(MessagePassing):
    r"""The multi-head attention whose softmax has one extra logit fixed at 0, from the `"Learning Intra-Batch
    Connections for Deep Metric Learning" <https://arxiv.org/abs/2102.07753>`_ paper.

    .. math::
        \mathbf{x}^{\prime}_i = \mathbf{W}_o \Big\Vert_{h=1}^{H} \sum_{j \in \mathcal{N}(i)}
        w_{ij} \, \alpha^h_{ij} \mathbf{v}^h_j + \mathbf{b}_o, \qquad
        \alpha^h_{ij} = \frac{\exp(s^h_{ij})}{1 + \sum_{k \in \mathcal{N}(i)} \exp(s^h_{ik})}, \qquad
        s^h_{ij} = {\mathbf{q}^h_i}^{\top} \mathbf{k}^h_j / \sqrt{D / H}

    The attention weights of a node thus sum to less than 1. Without edge weights, all :math:`w_{ij}` are 1. A node
    without neighbours gets :math:`\mathbf{b}_o`. An edge that is given twice counts twice.

    Args:
        in_channels (int): Size :math:`D` of each sample, a multiple of ``heads``.
        heads (int): Number of attention heads. (default: :obj:`2`)
        margin (bool): Use the extra logit. :obj:`False` gives the ordinary softmax. (default: :obj:`True`)
        dropout (float): Probability of dropping an attention weight in training, in [0, 1). (default: :obj:`0.1`)
        backend (str): See :obj:`~pyg_bgformer.nn.conv.margin_attention_conv.MarginBackend`. (default: ``"auto"``)
        **kwargs (optional): Additional arguments of :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **input:** node features :math:`(N, D)`, edge indices :math:`(2, E)` and edge weights :math:`(E)`
          *(both optional)*. Without edges the graph is complete, self loops included, and features
          :math:`(*, N, D)` are several such graphs.
        - **output:** node features of the input's shape or, with ``return_attention_weights``, these and
          :math:`((2, E), (E, H))`

    Raises:
        InputError: If ``heads`` does not divide ``in_channels``, or an option is unknown or out of its range. In
            the forward pass: if there are edge weights without edges, or edges for several graphs.
    """

    def __init__(
        self,
        in_channels: int,
        heads: int = 2,
        margin: bool = True,
        dropout: float = 0.1,
        backend: MarginBackend = "auto",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("aggr", "add")
        super().__init__(node_dim=0, **kwargs)
        check_heads(in_channels, heads)
        check_range("dropout", dropout, at_least=0, below=1)
        check_choice("backend", backend, ("auto", "message", "dense"))
        self.in_channels = in_channels
        self.heads = heads
        self.margin = margin
        self.dropout = dropout
        self.backend: MarginBackend = backend
        self.query = nn.Linear(in_channels, in_channels)
        self.key = nn.Linear(in_channels, in_channels)
        self.value = nn.Linear(in_channels, in_channels)
        self.proj = nn.Linear(in_channels, in_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Resets all parameters: Xavier-uniform weights and zero biases, as in the authors' code."""
        super().reset_parameters()
        for lin in (self.query, self.key, self.value, self.proj):
            nn.init.xavier_uniform_(lin.weight)
            nn.init.zeros_(lin.bias)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        r"""Returns the new features, in the shape of ``x``.

        With ``return_attention_weights`` it also returns the edges ``(2, E)`` and their attention weights
        :math:`\alpha`, ``(E, H)``: before dropout, without gradient and without the edge weights. The nodes of
        several graphs are numbered consecutively.
        """
        if edge_index is None and edge_weight is not None:
            raise InputError("edge_weight needs edge_index: give the edges that it weighs")
        if edge_index is not None and x.dim() != 2:
            raise InputError(f"edge_index describes one graph: x must be (N, D), found {tuple(x.shape)}")
        num_nodes = x.size(-2)
        dense = self.backend == "dense" or (
            self.backend == "auto" and (edge_index is None or num_nodes <= DENSE_UP_TO)
        )
        query, key, value = (
            lin(x).unflatten(-1, (self.heads, -1)) for lin in (self.query, self.key, self.value)
        )
        attend = self._attend_dense if dense else self._pass
        out = self.proj(attend(query, key, value, edge_index, edge_weight).flatten(-2))
        if not return_attention_weights:
            return out
        return out, self._weights(query.detach(), key.detach(), edge_index, dense)

    def _weights(
        self, query: Tensor, key: Tensor, edge_index: Tensor | None, dense: bool
    ) -> tuple[Tensor, Tensor]:
        """Returns the edges ``(2, E)`` of queries and keys ``(*, N, H, d)``, and their weights ``(E, H)``."""
        num_nodes = query.size(-3)
        if edge_index is None:
            alpha = self._alpha(query.transpose(-3, -2), key.transpose(-3, -2), None)  # (*, H, N, N)
            edges = complete_edges(num_nodes, query.shape[:-3].numel(), query.device)
            return edges, alpha.transpose(-3, -1).flatten(0, -2)  # sorted by source, as the edges are
        source, target = edge_index
        if not dense:
            scores = (query[target] * key[source]).sum(dim=-1) / query.size(-1) ** 0.5
            return edge_index, self._softmax(scores, target, num_nodes)
        counts = edge_counts(edge_index, num_nodes, query.dtype)
        alpha = self._alpha(query.transpose(0, 1), key.transpose(0, 1), counts)
        return edge_index, (alpha / counts.clamp(min=1))[:, target, source].t()

    def _attend_dense(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        edge_index: Tensor | None,
        edge_weight: Tensor | None,
    ) -> Tensor:
        query, key, value = (part.transpose(-3, -2) for part in (query, key, value))  # (*, H, N, d)
        counts = None if edge_index is None else edge_counts(edge_index, query.size(-2), query.dtype)
        if edge_index is None or counts is None or edge_weight is None:
            return self._attend_fused(query, key, value, counts).transpose(-3, -2)
        alpha = F.dropout(self._alpha(query, key, counts), self.dropout, self.training)
        source, target = edge_index
        weight = torch.zeros_like(counts, dtype=alpha.dtype)
        weight = weight.index_put((target, source), edge_weight.to(alpha.dtype), accumulate=True)
        # Alpha of a pair is the sum over its edges, so it is multiplied by the mean of their weights.
        return (alpha * (weight / counts.clamp(min=1)) @ value).transpose(-3, -2)

    def _attend_fused(self, query: Tensor, key: Tensor, value: Tensor, counts: Tensor | None) -> Tensor:
        """Returns the weighted sums ``(*, H, N, d)`` by a fused kernel, which does not store the weights."""
        mask = None
        if counts is not None:
            mask = torch.cat([edge_mask(counts), self._extra_logit(counts)], dim=1)
        if counts is not None or self.margin:
            # The extra logit is a key of zeros: its score is 0 for every query. Its value of zeros adds nothing.
            key, value = F.pad(key, (0, 0, 0, 1)), F.pad(value, (0, 0, 0, 1))
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)

    def _alpha(self, query: Tensor, key: Tensor, counts: Tensor | None) -> Tensor:
        """Returns the attention weight of each pair ``(*, H, N, N)``, the sum over its edges. Rows are targets."""
        scores = query @ key.transpose(-1, -2) / query.size(-1) ** 0.5
        if counts is None:
            extra = scores.new_zeros(scores.size(-2), 1) if self.margin else None
        else:
            scores, extra = scores + edge_mask(counts), self._extra_logit(counts)
        if extra is None:
            return scores.softmax(dim=-1)
        extra = extra.expand(*scores.shape[:-1], 1)
        return torch.cat([scores, extra], dim=-1).softmax(dim=-1)[..., :-1]

    def _extra_logit(self, counts: Tensor) -> Tensor:
        """Returns the extra logit ``(N, 1)``: 0, or -inf without a margin.

        Without a margin it is 0 only for nodes without neighbours, whose softmax would otherwise be empty.
        """
        extra = counts.new_zeros(counts.size(0), 1)
        return extra if self.margin else extra.masked_fill(counts.amax(dim=1, keepdim=True) > 0, -torch.inf)

    def _pass(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        edge_index: Tensor | None,
        edge_weight: Tensor | None,
    ) -> Tensor:
        shape = value.shape
        query, key, value = (part.reshape(-1, *shape[-2:]) for part in (query, key, value))
        if edge_index is None:
            edge_index = complete_edges(shape[-3], value.size(0) // shape[-3], value.device)
        alpha = self.edge_updater(edge_index, query=query, key=key)
        if edge_weight is not None:
            alpha = alpha * edge_weight[:, None].to(alpha.dtype)
        size = (value.size(0), value.size(0))
        return self.propagate(edge_index, value=value, alpha=alpha, size=size).view(shape)

    def edge_update(self, query_i: Tensor, key_j: Tensor, index: Tensor, size_i: int) -> Tensor:
        """Returns the attention weight of each edge, ``(E, H)``."""
        scores = (query_i * key_j).sum(dim=-1) / query_i.size(-1) ** 0.5
        return F.dropout(self._softmax(scores, index, size_i), self.dropout, self.training)

    def message(self, value_j: Tensor, alpha: Tensor) -> Tensor:
        """Returns the weighted value that each edge carries, ``(E, H, d)``."""
        return alpha.unsqueeze(-1) * value_j

    def _softmax(self, scores: Tensor, target: Tensor, num_nodes: int) -> Tensor:
        """Returns the attention weights of edges from their scores ``(E, H)`` and targets ``(E,)``."""
        num_edges = scores.size(0)
        if self.margin:  # the extra logit is one more edge into each node, with score 0 and without a message
            scores = torch.cat([scores, scores.new_zeros(num_nodes, scores.size(1))])
            target = torch.cat([target, torch.arange(num_nodes, device=target.device)])
        return softmax(scores, target, num_nodes=num_nodes)[:num_edges]

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.in_channels}, heads={self.heads})"
