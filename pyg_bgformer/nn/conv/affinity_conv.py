"""Propagation by similarity alone: the parameter-free visual branch."""

from typing import Any, Optional

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter

from pyg_bgformer.graph import nearest
from pyg_bgformer.nn.backend import Backend, check_backend, edge_counts, pick_backend, same_graph
from pyg_bgformer.nn.conv.ssa_conv import Neighbours
from pyg_bgformer.nn.ops import compress_edges, edge_dot, edge_sum

FLAT = 16
"""Spread of similarities, in rounding errors of the largest of them, up to which they count as equal."""


class AffinityConv(MessagePassing):
    r"""Propagation along edges weighted by the similarity of their ends, the ``affinity`` variant of
    BGFormer's visual branch in the `"Rethinking Batch Sample Relationships for Data Representation: A Batch-Graph
    Transformer based Approach" <https://arxiv.org/abs/2211.10622>`_ paper.

    .. math::
        \mathbf{x}^{\prime}_i = \sum_{j \in \mathcal{N}(i)} \frac{s_{ij} - \min_{j'} s_{ij'}}{\max_{j'} s_{ij'} -
        \min_{j'} s_{ij'}} \mathbf{x}_j, \qquad s_{ij} = \mathbf{x}_i^{\top} \mathbf{x}_j

    with minimum and maximum over :math:`\mathcal{N}(i)`: the most similar neighbour has weight 1, the least
    similar 0. Where all are equally similar, a single neighbour included, each is the most similar and has
    weight 1 (the original divides zero by zero). A node without neighbours gets zeros.

    Args:
        neighbours (str): ``"graph"`` for given edges, ``"scores"`` for the :math:`k` most similar nodes.
            (default: ``"graph"``)
        k (int, optional): With ``"scores"``, the neighbours of each node; :obj:`None` takes all.
            (default: :obj:`None`)
        backend (str): See :obj:`~pyg_bgformer.nn.backend.Backend`. (default: ``"auto"``)

    Shapes:
        - **input:** node features :math:`(N, D)`, edge indices :math:`(2, E)` (only with ``"graph"``), batch
          vector :math:`(N)` *(optional; only used with* ``"scores"`` *)*
        - **output:** node features :math:`(N, D)` or, with ``return_attention_weights``, :math:`((N, D), ((2, E),
          (E)))`

    Raises:
        ValueError: If ``k`` is given without ``"scores"`` or below 1, or edges are missing (``"graph"``) or given
            (``"scores"``).
    """

    def __init__(
        self,
        neighbours: Neighbours = "graph",
        k: int | None = None,
        backend: Backend = "auto",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("aggr", "add")
        super().__init__(node_dim=0, **kwargs)
        check_backend(backend)
        if neighbours not in ("graph", "scores"):
            raise ValueError(f"neighbours must be 'graph' or 'scores', found {neighbours!r}")
        if k is not None and (neighbours == "graph" or k < 1):
            raise ValueError(f"k goes with neighbours='scores' and is at least 1, found {k}")
        self.neighbours = neighbours
        self.k = k
        self.backend: Backend = backend

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        batch: Tensor | None = None,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns the propagated features ``(N, D)`` and, if asked for, the edges and their weights ``(E,)``."""
        if (edge_index is None) != (self.neighbours == "scores"):
            raise ValueError("edge_index is needed with neighbours='graph' and only then")
        # A rescaled difference of similarities keeps few digits of half precision.
        with torch.autocast(x.device.type, enabled=False):
            wide = x if x.dtype == torch.float64 else x.float()
            if edge_index is None:
                edge_index = self._most_similar(wide.detach(), same_graph(batch, x.size(0), x.device))
            out = self._along(wide, edge_index).to(x.dtype)
            if return_attention_weights:
                return out, (edge_index, self.edge_updater(edge_index, x=wide.detach()))
            return out

    def _along(self, x: Tensor, edge_index: Tensor) -> Tensor:
        backend = pick_backend(self.backend, edge_index, x.size(0))
        if backend == "dense":
            return self._propagate_dense(x, edge_index)
        if backend == "sparse":
            return self._propagate_sparse(x, edge_index)
        weight = self.edge_updater(edge_index, x=x)
        return self.propagate(edge_index, x=x, weight=weight, size=(x.size(0), x.size(0)))

    # PyG reads these annotations and knows Optional[...], not `... | None`.
    def edge_update(self, x_i: Tensor, x_j: Tensor, index: Tensor, dim_size: Optional[int]) -> Tensor:  # noqa: UP045
        """Weight of each edge, ``(E,)``."""
        return _rescaled((x_i * x_j).sum(dim=-1), index, dim_size)

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """The weighted features that each edge carries, ``(E, D)``."""
        return weight.unsqueeze(-1) * x_j

    def _most_similar(self, x: Tensor, allowed: Tensor) -> Tensor:
        scores = (x @ x.t()).masked_fill(~allowed, float("-inf"))
        k = scores.size(1) if self.k is None else self.k
        receiver, sender = (nearest(scores, k) & allowed).nonzero(as_tuple=True)
        return torch.stack([sender, receiver])

    def _propagate_dense(self, x: Tensor, edge_index: Tensor) -> Tensor:
        counts = edge_counts(edge_index, x.size(0), x.dtype)
        scores, absent = x @ x.t(), counts == 0
        low = scores.masked_fill(absent, float("inf")).amin(dim=1, keepdim=True)
        high = scores.masked_fill(absent, float("-inf")).amax(dim=1, keepdim=True)
        weight = _between(scores, low, high).masked_fill(absent, 0.0)
        return (weight * counts) @ x

    def _propagate_sparse(self, x: Tensor, edge_index: Tensor) -> Tensor:
        edges = compress_edges(edge_index, x.size(0))
        weight = _rescaled(edge_dot(x, x, edges), edges.receiver.long(), x.size(0))
        return edge_sum(weight, x, edges)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(neighbours={self.neighbours!r}, k={self.k})"


def _rescaled(scores: Tensor, receiver: Tensor, num_nodes: int | None) -> Tensor:
    low = scatter(scores, receiver, dim=0, dim_size=num_nodes, reduce="min")
    high = scatter(scores, receiver, dim=0, dim_size=num_nodes, reduce="max")
    return _between(scores, low[receiver], high[receiver])


def _between(scores: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Scores rescaled from ``[low, high]`` to [0, 1]; 1 where the two are equal."""
    spread = high - low
    rounding = torch.finfo(scores.dtype).eps * torch.maximum(high.abs(), low.abs())
    flat = ~(spread > FLAT * rounding)
    return ((scores - low) / spread.masked_fill(flat, 1.0)).masked_fill(flat, 1.0)
