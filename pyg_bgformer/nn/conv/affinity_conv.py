"""Propagation with similarities as weights, which has no parameters."""

from typing import Any, Optional

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter

from pyg_bgformer.errors import check_choice
from pyg_bgformer.graph import mask_to_edges, nearest
from pyg_bgformer.nn.conv.ssa_conv import Neighbours, check_edges, check_neighbours
from pyg_bgformer.nn.ops import (
    NO_SPARSE,
    Backend,
    compress_edges,
    edge_counts,
    edge_dot,
    edge_sum,
    not_compiled,
    pick_backend,
    rescale,
    same_graph,
)
from pyg_bgformer.precision import wide


class AffinityConv(MessagePassing):
    r"""The propagation along edges that are weighted by similarity, from the `"Rethinking Batch Sample
    Relationships for Data Representation: A Batch-Graph Transformer based Approach"
    <https://arxiv.org/abs/2211.10622>`_ paper. It is the ``affinity`` variant of BGFormer's visual branch.

    .. math::
        \mathbf{x}^{\prime}_i = \sum_{j \in \mathcal{N}(i)} \frac{s_{ij} - \min_{j'} s_{ij'}}{\max_{j'} s_{ij'} -
        \min_{j'} s_{ij'}} \mathbf{x}_j, \qquad s_{ij} = \mathbf{x}_i^{\top} \mathbf{x}_j

    with the minimum and maximum over :math:`\mathcal{N}(i)`. The most similar neighbour has weight 1, the least
    similar one 0. If all neighbours are equally similar, or there is only one, each has weight 1. (The authors'
    code divides zero by zero there.) A node without neighbours gets zeros. An edge that is given twice counts
    twice.

    Args:
        neighbours (str): ``"graph"``: the caller gives the edges. ``"scores"``: each node has the :math:`k` most
            similar nodes as neighbours, itself included. (default: ``"graph"``)
        k (int, optional): With ``"scores"``, the number of neighbours of each node, at least 1. :obj:`None` takes
            all. (default: :obj:`None`)
        backend (str): See :obj:`~pyg_bgformer.nn.ops.Backend`. (default: ``"auto"``)
        **kwargs (optional): Additional arguments of :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **input:** node features :math:`(N, D)`, edge indices :math:`(2, E)` (only with ``"graph"``), batch
          vector :math:`(N)` *(optional; used only with* ``"scores"`` *)*
        - **output:** node features :math:`(N, D)` or, with ``return_attention_weights``, :math:`((N, D), ((2, E),
          (E)))`

    Raises:
        InputError: If an option is unknown, or ``k`` is below 1 or given without ``"scores"``. In the forward pass:
            if edges are missing (``"graph"``) or given (``"scores"``).
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
        check_neighbours(neighbours, k)
        check_choice("backend", backend, ("auto", "message", "sparse", "dense"))
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
        """Returns the propagated features ``(N, D)``.

        With ``return_attention_weights`` it also returns the edges ``(2, E)`` and their weights ``(E,)``, without
        gradient.
        """
        check_edges(self.neighbours, edge_index)
        # Differences of similarities, rescaled to [0, 1], would keep few digits in half precision.
        with torch.autocast(x.device.type, enabled=False):
            features = wide(x)
            if edge_index is not None:
                out = self._propagated(features, edge_index)
            else:
                chosen = self._most_similar(features.detach(), same_graph(batch, x.size(0), x.device))
                # All pairs have been compared, so a sparse path would save nothing.
                if self.backend in ("auto", "dense"):
                    out = _propagated_dense(features, chosen.to(features.dtype))
                else:
                    out = self._propagated(features, mask_to_edges(chosen))
            out = out.to(x.dtype)
            if not return_attention_weights:
                return out
            edge_index = mask_to_edges(chosen) if edge_index is None else edge_index
            return out, (edge_index, self.edge_updater(edge_index, x=features.detach()))

    def _propagated(self, x: Tensor, edge_index: Tensor) -> Tensor:
        num_nodes = x.size(0)
        backend = pick_backend(self.backend, edge_index, num_nodes)
        if backend == "dense":
            return _propagated_dense(x, edge_counts(edge_index, num_nodes, x.dtype))
        if backend == "sparse":
            return _propagated_sparse(x, edge_index)
        weight = self.edge_updater(edge_index, x=x)
        return self.propagate(edge_index, x=x, weight=weight, size=(num_nodes, num_nodes))

    # PyG reads these annotations. It understands Optional[...], but not `... | None`.
    def edge_update(self, x_i: Tensor, x_j: Tensor, index: Tensor, dim_size: Optional[int]) -> Tensor:  # noqa: UP045
        """Returns the weight of each edge, ``(E,)``."""
        return _rescaled((x_i * x_j).sum(dim=-1), index, dim_size)

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """Returns the weighted features that each edge carries, ``(E, D)``."""
        return weight.unsqueeze(-1) * x_j

    def _most_similar(self, x: Tensor, allowed: Tensor) -> Tensor:
        """Returns the chosen neighbours as a mask ``(N, N)``. Rows are targets."""
        scores = (x @ x.t()).masked_fill(~allowed, -torch.inf)
        return nearest(scores, scores.size(1) if self.k is None else self.k) & allowed

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(neighbours={self.neighbours!r}, k={self.k})"


def _propagated_dense(x: Tensor, counts: Tensor) -> Tensor:
    """Returns the propagated features ``(N, D)`` from counts of edges ``(N, N)``."""
    scores, absent = x @ x.t(), counts == 0
    low = scores.masked_fill(absent, torch.inf).amin(dim=1, keepdim=True)
    high = scores.masked_fill(absent, -torch.inf).amax(dim=1, keepdim=True)
    weight = rescale(scores, low, high, flat=1.0).masked_fill(absent, 0.0)
    return (weight * counts) @ x


@not_compiled(NO_SPARSE)
def _propagated_sparse(x: Tensor, edge_index: Tensor) -> Tensor:
    edges = compress_edges(edge_index, x.size(0))
    return edge_sum(_rescaled(edge_dot(x, x, edges), edges.target.long(), x.size(0)), x, edges)


def _rescaled(scores: Tensor, target: Tensor, num_nodes: int | None) -> Tensor:
    """Returns the scores ``(E,)`` of edges, rescaled to [0, 1] among the edges with the same target."""
    low = scatter(scores, target, dim=0, dim_size=num_nodes, reduce="min")
    high = scatter(scores, target, dim=0, dim_size=num_nodes, reduce="max")
    return rescale(scores, low[target], high[target], flat=1.0)
