"""Attention of Intra-Batch Connections: a softmax that may also attend to nothing."""

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import softmax

from pyg_bgformer.nn.backend import DENSE_UP_TO_ON_GPU, edge_counts

MarginBackend = Literal["auto", "message", "dense"]
Aggregation = Literal["add", "mean", "max"]


class MarginAttentionConv(MessagePassing):
    r"""Multi-head attention whose softmax has one extra logit fixed at 0, from the `"Learning Intra-Batch
    Connections for Deep Metric Learning" <https://arxiv.org/abs/2102.07753>`_ paper.

    .. math::
        \mathbf{x}^{\prime}_i = \mathbf{W}_o \Big\Vert_{h=1}^{H} \bigoplus_{j \in \mathcal{N}(i)}
        w_{ij} \, \alpha^h_{ij} \mathbf{v}^h_j + \mathbf{b}_o, \qquad
        \alpha^h_{ij} = \frac{\exp(s^h_{ij})}{1 + \sum_{k \in \mathcal{N}(i)} \exp(s^h_{ik})}, \qquad
        s^h_{ij} = {\mathbf{q}^h_i}^{\top} \mathbf{k}^h_j / \sqrt{D / H}

    so that the weights of a node sum to less than 1. Edge weights :math:`w_{ij}` are 1 where none are given.
    A node without neighbours gets :math:`\mathbf{b}_o`; an edge given twice counts twice.

    Args:
        in_channels (int): Size :math:`D` of each sample, a multiple of ``heads``.
        heads (int): Attention heads. (default: :obj:`2`)
        margin (bool): Whether there is the extra logit; without it this is the ordinary softmax.
            (default: :obj:`True`)
        aggr (str): :math:`\bigoplus`: ``"add"``, ``"mean"`` or ``"max"``, element by element.
            (default: ``"add"``)
        dropout (float): Probability of dropping an attention weight in training. (default: :obj:`0.1`)
        backend (str): ``"message"``: PyG message passing, the definition. ``"dense"``: the same numbers over
            all pairs of nodes; with ``"max"`` and edge weights it passes messages too. ``"auto"``: dense, but
            messages where edges are given with ``"max"``, or of a very large graph. (default: ``"auto"``)

    Shapes:
        - **input:** node features :math:`(N, D)`, edge indices :math:`(2, E)` and edge weights :math:`(E)`
          *(both optional)*. Without edges the graph is complete, self loops included, and features
          :math:`(*, N, D)` are several such graphs.
        - **output:** node features of the input's shape

    Raises:
        ValueError: If ``heads`` does not divide ``in_channels``, an option is not known or out of its range,
            there are edge weights without edges, or edges for several graphs.
    """

    def __init__(
        self,
        in_channels: int,
        heads: int = 2,
        margin: bool = True,
        aggr: Aggregation = "add",
        dropout: float = 0.1,
        backend: MarginBackend = "auto",
        **kwargs: Any,
    ) -> None:
        if aggr not in get_args(Aggregation):
            raise ValueError(f"aggr must be one of {', '.join(get_args(Aggregation))}; found {aggr!r}")
        if backend not in get_args(MarginBackend):
            raise ValueError(
                f"backend must be one of {', '.join(get_args(MarginBackend))}; found {backend!r}"
            )
        if heads < 1 or in_channels % heads != 0:
            raise ValueError(f"heads must divide in_channels: found {heads} heads, {in_channels} channels")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), found {dropout}")
        super().__init__(aggr=aggr, node_dim=0, **kwargs)
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
        """Draws all parameters anew."""
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
        r"""Returns the attended features, of the shape of ``x``.

        With ``return_attention_weights`` also the edges ``(2, E)`` and the weights :math:`\alpha` of each,
        ``(E, H)``: before dropout, without gradient and without the edge weights. The nodes of several graphs are
        numbered through.
        """
        if edge_index is None and edge_weight is not None:
            raise ValueError("edge_weight needs the edge_index whose edges it weighs")
        if edge_index is not None and x.dim() != 2:
            raise ValueError(f"edges are of one graph: x must be (N, D), found {tuple(x.shape)}")
        query, key, value = (
            lin(x).unflatten(-1, (self.heads, -1)) for lin in (self.query, self.key, self.value)
        )
        attend = self._dense if self._is_dense(x.size(-2), edge_index, edge_weight) else self._by_messages
        out = self.proj(attend(query, key, value, edge_index, edge_weight).flatten(-2))
        if not return_attention_weights:
            return out
        return out, self._weights(query.detach(), key.detach(), edge_index)

    def _weights(self, query: Tensor, key: Tensor, edge_index: Tensor | None) -> tuple[Tensor, Tensor]:
        """``(*, N, H, d)`` and edges, or none for all -> edges ``(2, E)`` and their weights ``(E, H)``."""
        num_nodes = query.size(-3)
        if edge_index is None:
            alpha = self._alpha(query.transpose(-3, -2), key.transpose(-3, -2), None)  # (*, H, N, N)
            edges = complete_edges(num_nodes, query.shape[:-3].numel(), query.device)
            return edges, alpha.transpose(-3, -1).flatten(0, -2)  # a source's edges one after another
        source, target = edge_index
        if self._is_dense(num_nodes, edge_index, None):
            counts = edge_counts(edge_index, num_nodes, query.dtype)
            alpha = self._alpha(query.transpose(0, 1), key.transpose(0, 1), counts)
            return edge_index, (alpha / counts.clamp(min=1))[:, target, source].t()
        scores = (query[target] * key[source]).sum(dim=-1) / query.size(-1) ** 0.5
        return edge_index, self._softmax(scores, target, num_nodes)

    def _is_dense(self, num_nodes: int, edge_index: Tensor | None, edge_weight: Tensor | None) -> bool:
        if self.aggr == "max" and edge_weight is not None:
            return False  # the largest of two edges between the same nodes is not to be had from their pair
        if self.backend != "auto":
            return self.backend == "dense"
        return edge_index is None or (self.aggr != "max" and num_nodes <= DENSE_UP_TO_ON_GPU)

    def _dense(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        edge_index: Tensor | None,
        edge_weight: Tensor | None,
    ) -> Tensor:
        query, key, value = (part.transpose(-3, -2) for part in (query, key, value))  # (*, H, N, d)
        num_nodes = query.size(-2)
        counts = None if edge_index is None else edge_counts(edge_index, num_nodes, query.dtype)
        if edge_weight is None and self.aggr != "max":
            out = self._fused(query, key, value, counts)
        else:
            alpha = F.dropout(self._alpha(query, key, counts), self.dropout, self.training)
            if counts is not None and edge_index is not None and edge_weight is not None:
                alpha = alpha * _mean_weights(edge_index, edge_weight.to(alpha.dtype), counts)
            out = _largest(alpha, value, counts) if self.aggr == "max" else alpha @ value
        if self.aggr == "mean":
            out = out / (num_nodes if counts is None else counts.sum(dim=1, keepdim=True).clamp(min=1))
        return out.transpose(-3, -2)

    def _fused(self, query: Tensor, key: Tensor, value: Tensor, counts: Tensor | None) -> Tensor:
        """Weighted sums ``(*, H, N, d)`` without the weights ever being written down."""
        mask = None
        if counts is not None:
            mask = torch.cat([counts.log(), self._extra_logit(counts)], dim=1)
        if counts is not None or self.margin:
            # A key of zeros scores 0 with any query, and its value of zeros adds nothing.
            key, value = F.pad(key, (0, 0, 0, 1)), F.pad(value, (0, 0, 0, 1))
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)

    def _alpha(self, query: Tensor, key: Tensor, counts: Tensor | None) -> Tensor:
        """The weight of each pair ``(*, H, N, N)``, of all its edges together."""
        scores = query @ key.transpose(-1, -2) / query.size(-1) ** 0.5
        if counts is None:
            extra = scores.new_zeros(scores.size(-2), 1) if self.margin else None
        else:
            scores, extra = scores + counts.log(), self._extra_logit(counts)
        if extra is None:
            return scores.softmax(dim=-1)
        extra = extra.expand(*scores.shape[:-1], 1)
        return torch.cat([scores, extra], dim=-1).softmax(dim=-1)[..., :-1]

    def _extra_logit(self, counts: Tensor) -> Tensor:
        """``(N, 1)``: 0; without a margin only for nodes without neighbours, whose softmax would be empty."""
        extra = counts.new_zeros(counts.size(0), 1)
        return extra if self.margin else extra.masked_fill(counts.amax(dim=1, keepdim=True) > 0, -torch.inf)

    def _by_messages(
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
        """Attention weight of each edge, ``(E, H)``."""
        scores = (query_i * key_j).sum(dim=-1) / query_i.size(-1) ** 0.5
        return F.dropout(self._softmax(scores, index, size_i), self.dropout, self.training)

    def _softmax(self, scores: Tensor, target: Tensor, num_nodes: int) -> Tensor:
        """Scores ``(E, H)`` and the node that each edge leads to -> weights."""
        num_edges = scores.size(0)
        if self.margin:  # one more edge into each node, with a score of 0, that carries nothing
            scores = torch.cat([scores, scores.new_zeros(num_nodes, scores.size(1))])
            target = torch.cat([target, torch.arange(num_nodes, device=target.device)])
        return softmax(scores, target, num_nodes=num_nodes)[:num_edges]

    def message(self, value_j: Tensor, alpha: Tensor) -> Tensor:
        """The weighted value that each edge carries, ``(E, H, d)``."""
        return alpha.unsqueeze(-1) * value_j

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.in_channels}, heads={self.heads})"


def complete_edges(num_nodes: int, num_graphs: int = 1, device: torch.device | None = None) -> Tensor:
    """All pairs of nodes of each graph, self loops included: ``(2, num_graphs * num_nodes ** 2)``."""
    nodes = torch.arange(num_graphs * num_nodes, device=device).view(num_graphs, num_nodes)
    sender = nodes[:, :, None].expand(-1, -1, num_nodes)
    return torch.stack([sender.flatten(), sender.transpose(1, 2).flatten()])


def _mean_weights(edge_index: Tensor, edge_weight: Tensor, counts: Tensor) -> Tensor:
    """``(N, N)``: the mean weight of the edges of each pair, 0 where there is none."""
    sender, receiver = edge_index
    total = torch.zeros_like(counts, dtype=edge_weight.dtype)
    return total.index_put((receiver, sender), edge_weight, accumulate=True) / counts.clamp(min=1)


def _largest(alpha: Tensor, value: Tensor, counts: Tensor | None) -> Tensor:
    """The largest message into each node, element by element, ``(*, H, N, d)``; 0 where there is none."""
    if counts is None:
        return (alpha[..., None] * value[..., None, :, :]).amax(dim=-2)
    # Edges given twice share the pair's weight.
    messages = (alpha / counts.clamp(min=1))[..., None] * value[..., None, :, :]
    largest = messages.masked_fill((counts == 0)[..., None], -torch.inf).amax(dim=-2)
    return largest.masked_fill((counts == 0).all(dim=1)[:, None], 0.0)
