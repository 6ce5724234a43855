"""Propagation along the label graph, in which samples of one class exchange their features."""

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter

from pyg_bgformer.errors import check_choice, check_range
from pyg_bgformer.nn.ops import (
    NO_SPARSE,
    Backend,
    compress_edges,
    edge_counts,
    edge_sum,
    not_compiled,
    pick_backend,
)
from pyg_bgformer.precision import wide


class LabelConv(MessagePassing):
    r"""The propagation along the symmetrically normalised label graph, which is BGFormer's semantic branch, from
    the `"Rethinking Batch Sample Relationships for Data Representation: A Batch-Graph Transformer based Approach"
    <https://arxiv.org/abs/2211.10622>`_ paper.

    .. math::
        \mathbf{X}^{\prime} = \mathbf{D}^{-1/2} \mathbf{A} \mathbf{D}^{-1/2} (\mathbf{X} \mathbf{W}^{\top} +
        \mathbf{b})

    :math:`A_{ij}` counts the edges from :math:`j` to :math:`i \neq j`, and :math:`D_{ii} = \sum_j A_{ij}`.
    :math:`A_{ii}` is ``self_weight``, with or without self loops in the edge index. The authors use the weight 2:
    they add the identity to a label matrix that already has ones on its diagonal.

    Args:
        in_channels (int): Size :math:`D` of each sample.
        self_weight (float): Weight of each node's edge to itself, > 0. (default: :obj:`2.`)
        backend (str): See :obj:`~pyg_bgformer.nn.ops.Backend`. (default: ``"auto"``)
        **kwargs (optional): Additional arguments of :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **input:** node features :math:`(N, D)`, edge indices :math:`(2, E)`
        - **output:** node features :math:`(N, D)` or, with ``return_attention_weights``, :math:`((N, D), ((2, E),
          (E)))`

    Raises:
        InputError: If ``self_weight`` is not positive, or ``backend`` is unknown.
    """

    def __init__(
        self, in_channels: int, self_weight: float = 2.0, backend: Backend = "auto", **kwargs: Any
    ) -> None:
        kwargs.setdefault("aggr", "add")
        super().__init__(node_dim=0, **kwargs)
        check_range("self_weight", self_weight, above=0)
        check_choice("backend", backend, ("auto", "message", "sparse", "dense"))
        self.in_channels = in_channels
        self.self_weight = self_weight
        self.backend: Backend = backend
        self.lin = nn.Linear(in_channels, in_channels)

    def reset_parameters(self) -> None:
        """Resets all parameters to random initial values."""
        super().reset_parameters()
        self.lin.reset_parameters()

    def forward(
        self, x: Tensor, edge_index: Tensor, return_attention_weights: bool = False
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns the propagated features ``(N, D)``.

        With ``return_attention_weights`` it also returns the edges ``(2, E)``, with one self loop for each node,
        and their weights ``(E,)`` in the normalised label graph.
        """
        num_nodes, x = x.size(0), self.lin(x)
        dtype = torch.promote_types(x.dtype, torch.float32)
        backend = pick_backend(self.backend, edge_index, num_nodes)
        if backend == "dense":
            itself = torch.eye(num_nodes, dtype=torch.bool, device=x.device)
            adjacency = edge_counts(edge_index, num_nodes, dtype).masked_fill(itself, self.self_weight)
            scale = adjacency.sum(dim=1).rsqrt()
            out = (scale[:, None] * adjacency * scale[None, :]).to(x.dtype) @ x
        else:
            edges, weight = self._weighted(edge_index, num_nodes, dtype)
            if backend == "sparse":
                out = _weighted_sum(x, edges, weight)
            else:
                size = (num_nodes, num_nodes)
                out = self.propagate(edges, x=x, weight=weight.to(x.dtype), size=size)
        if not return_attention_weights:
            return out
        edges, weight = self._weighted(edge_index, num_nodes, dtype)
        return out, (edges[:, weight > 0], weight[weight > 0])

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """Returns the weighted features that each edge carries, ``(E, D)``."""
        return weight.unsqueeze(-1) * x_j

    def _weighted(self, edge_index: Tensor, num_nodes: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Returns the edges with one more self loop for each node, and their weights; given self loops weigh 0."""
        loops = torch.arange(num_nodes, device=edge_index.device)
        others = (edge_index[0] != edge_index[1]).to(dtype)
        weight = torch.cat([others, torch.full_like(loops, self.self_weight, dtype=dtype)])
        edge_index = torch.cat([edge_index, loops.expand(2, -1)], dim=1)
        source, target = edge_index
        scale = scatter(weight, target, dim=0, dim_size=num_nodes).rsqrt()
        return edge_index, scale[target] * weight * scale[source]

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.in_channels}, self_weight={self.self_weight})"


@not_compiled(NO_SPARSE)
def _weighted_sum(x: Tensor, edge_index: Tensor, weight: Tensor) -> Tensor:
    order = edge_index[1].argsort(stable=True)
    edges = compress_edges(edge_index[:, order], x.size(0))
    with torch.autocast(x.device.type, enabled=False):  # sparse products need full precision
        return edge_sum(weight[order], wide(x), edges).to(x.dtype)
