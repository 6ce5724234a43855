"""Propagation along the label graph: what the samples of one class tell each other."""

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import remove_self_loops, scatter

from pyg_bgformer.nn.backend import Backend, check_backend, edge_counts, pick_backend
from pyg_bgformer.nn.ops import compress_edges, edge_sum


class LabelConv(MessagePassing):
    r"""Propagation along the symmetrically normalised label graph, the semantic branch of BGFormer in the
    `"Rethinking Batch Sample Relationships for Data Representation: A Batch-Graph Transformer based Approach"
    <https://arxiv.org/abs/2211.10622>`_ paper.

    .. math::
        \mathbf{X}^{\prime} = \mathbf{D}^{-1/2} \mathbf{A} \mathbf{D}^{-1/2} (\mathbf{X} \mathbf{W}^{\top} +
        \mathbf{b})

    :math:`A_{ij}` counts the edges from :math:`j` to :math:`i \neq j`, :math:`A_{ii}` is ``self_weight``
    whether or not the edge index holds self loops, and :math:`D_{ii} = \sum_j A_{ij}`. The weight 2 is the
    original's: its label matrix already has a diagonal when the identity is added.

    Args:
        in_channels (int): Size :math:`D` of each sample.
        self_weight (float): Weight of each node's edge to itself, > 0. (default: :obj:`2.`)
        bias (bool): Whether the linear map has a bias. (default: :obj:`True`)
        backend (str): See :obj:`~pyg_bgformer.nn.backend.Backend`. (default: ``"auto"``)

    Shapes:
        - **input:** node features :math:`(N, D)`, edge indices :math:`(2, E)`
        - **output:** node features :math:`(N, D)` or, with ``return_attention_weights``, :math:`((N, D), ((2, E),
          (E)))`

    Raises:
        ValueError: If ``self_weight`` is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        self_weight: float = 2.0,
        bias: bool = True,
        backend: Backend = "auto",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("aggr", "add")
        super().__init__(node_dim=0, **kwargs)
        check_backend(backend)
        if self_weight <= 0:
            raise ValueError(f"self_weight must be positive, found {self_weight}")
        self.in_channels = in_channels
        self.self_weight = self_weight
        self.backend: Backend = backend
        self.lin = nn.Linear(in_channels, in_channels, bias=bias)

    def reset_parameters(self) -> None:
        """Draws all parameters anew."""
        super().reset_parameters()
        self.lin.reset_parameters()

    def forward(
        self, x: Tensor, edge_index: Tensor, return_attention_weights: bool = False
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns the propagated features ``(N, D)``.

        With ``return_attention_weights`` also the edges, one self loop per node among them, and the entry of the
        normalised label graph that each contributes, ``(E,)``.
        """
        out = self._propagated(self.lin(x), edge_index)
        if not return_attention_weights:
            return out
        return out, self._weighted(edge_index, x.size(0), _wide(x.dtype))

    def _propagated(self, x: Tensor, edge_index: Tensor) -> Tensor:
        num_nodes = x.size(0)
        backend = pick_backend(self.backend, edge_index, num_nodes)
        if backend == "dense":
            return self._adjacency(edge_index, num_nodes, _wide(x.dtype)).to(x.dtype) @ x
        edge_index, weight = self._weighted(edge_index, num_nodes, _wide(x.dtype))
        if backend == "sparse":
            return self._propagate_sparse(x, edge_index, weight)
        return self.propagate(edge_index, x=x, weight=weight.to(x.dtype), size=(num_nodes, num_nodes))

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """The weighted features that each edge carries, ``(E, D)``."""
        return weight.unsqueeze(-1) * x_j

    def _adjacency(self, edge_index: Tensor, num_nodes: int, dtype: torch.dtype) -> Tensor:
        adjacency = edge_counts(edge_index, num_nodes, dtype).fill_diagonal_(self.self_weight)
        scale = adjacency.sum(dim=1).rsqrt()
        return scale[:, None] * adjacency * scale[None, :]

    def _weighted(self, edge_index: Tensor, num_nodes: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Edges with one self loop per node, and the normalised weight of each."""
        edge_index, _ = remove_self_loops(edge_index)
        loops = torch.arange(num_nodes, device=edge_index.device).expand(2, -1)
        weight = torch.ones(edge_index.size(1) + num_nodes, dtype=dtype, device=edge_index.device)
        weight[edge_index.size(1) :] = self.self_weight
        edge_index = torch.cat([edge_index, loops], dim=1)
        sender, receiver = edge_index
        scale = scatter(weight, receiver, dim=0, dim_size=num_nodes).rsqrt()
        return edge_index, scale[receiver] * weight * scale[sender]

    def _propagate_sparse(self, x: Tensor, edge_index: Tensor, weight: Tensor) -> Tensor:
        order = edge_index[1].argsort(stable=True)
        edges = compress_edges(edge_index[:, order], x.size(0))
        with torch.autocast(x.device.type, enabled=False):  # sparse products exist in full precision
            return edge_sum(weight[order], x.to(weight.dtype), edges).to(x.dtype)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.in_channels}, self_weight={self.self_weight})"


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
