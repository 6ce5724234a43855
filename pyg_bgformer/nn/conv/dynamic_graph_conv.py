"""The propagation of DyBGR, along a graph whose weights depend on the features that it refines."""

from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing

from pyg_bgformer.errors import check_choice, check_range
from pyg_bgformer.nn.ops import (
    FLAT,
    NO_SPARSE,
    Backend,
    compress_edges,
    edge_counts,
    edge_sum,
    not_compiled,
    rescale,
)
from pyg_bgformer.precision import wide


class DynamicGraphConv(MessagePassing):
    r"""The propagation of DyBGR along a learned batch graph, from the `"Learning Dynamic Batch-Graph
    Representation for Deep Representation Learning" <https://doi.org/10.1007/s11263-024-02175-8>`_ paper.

    Features and the weights of the graph refine each other in turns. The neighbours of each node are chosen once:
    the :math:`K` nearest other nodes by distances that are shorter within a class,

    .. math::
        d_{ij} = \textrm{minmax}_j \left( \Vert \mathbf{x}_i - \mathbf{x}_j \Vert - 2 \beta L_{ij} - 10^{-5}
        \, \textrm{minmax}_j(\mathbf{x}_i^{\top} \mathbf{x}_j) \right)

    where :math:`L` is the label graph with double self loops, whose rows are normalised to sum 1. Then the layer
    repeats :math:`T` times, starting from :math:`\mathbf{f}_i = \mathbf{x}_i`,

    .. math::
        a_{ij} &= \max \left( 0, \frac{1}{K} + \frac{\bar d_i - d_{ij} + \lambda \, \textrm{minmax}_j
        (\mathbf{f}_i^{\top} \mathbf{f}_j)}{2 \gamma + 10^{-8}} \right)

        \mathbf{f}_i &= \epsilon \sum_{j \in \mathcal{N}(i)} a_{ij} \mathbf{x}_j + (1 - \epsilon) \mathbf{x}_i

    :math:`\bar d_i` is the mean distance of node :math:`i` from its :math:`K` neighbours. :math:`\gamma` is the
    mean over all nodes of :math:`\frac{1}{2} \sum_{j \in \mathcal{N}(i)} (d_{i, K + 1} - d_{ij})`, where
    :math:`d_{i, K + 1}` is the distance of the next nearest node. The layer has no parameters. Gradients flow
    through distances, :math:`\gamma`, similarities and weights, but not through the choice of neighbours. Features
    that are not finite are not refused: the output then has values that are not finite.

    The paper leaves some cases open. If ``k`` is at least the number of other nodes, all are neighbours, and
    :math:`d_{i, K + 1}` is the distance of the farthest. The min-max of a row of equal values is 0. If all
    neighbours of each node are equally far from it, :math:`\gamma` is 0 and their weights are :math:`1 / K`. Of
    equally far nodes, those with the lowest indices are chosen. A single node is multiplied by :math:`1 -
    \epsilon`.

    Args:
        k (int): Number of neighbours :math:`K` of each node, itself not included, at least 1. (default: :obj:`30`)
        beta (float): Weight :math:`\beta` of the label graph in the distances, at least 0. (default: :obj:`0.5`)
        lam (float): Weight :math:`\lambda` of the similarity of refined features, at least 0. (default: :obj:`0.3`)
        eps (float): Share :math:`\epsilon` of the neighbours in a refined feature, in [0, 1].
            (default: :obj:`0.5`)
        num_iterations (int): Number of repetitions :math:`T`, at least 1. (default: :obj:`3`)
        backend (str): See :obj:`~pyg_bgformer.nn.ops.Backend`. ``"auto"`` is ``"dense"``: all pairs are compared
            with any backend. (default: ``"auto"``)
        **kwargs (optional): Additional arguments of :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **input:** node features :math:`(N, D)`, semantic edge indices :math:`(2, E_s)`, batch vector :math:`(N)`
          *(optional)*
        - **output:** node features :math:`(N, D)` or, with ``return_attention_weights``, :math:`((N, D), ((2, E),
          (E)))`

    Raises:
        InputError: If an option is unknown or out of its range.
    """

    def __init__(
        self,
        k: int = 30,
        beta: float = 0.5,
        lam: float = 0.3,
        eps: float = 0.5,
        num_iterations: int = 3,
        backend: Backend = "auto",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("aggr", "add")
        super().__init__(node_dim=0, **kwargs)
        check_range("k", k, at_least=1)
        check_range("num_iterations", num_iterations, at_least=1)
        check_range("beta", beta, at_least=0)
        check_range("lam", lam, at_least=0)
        check_range("eps", eps, at_least=0, at_most=1)
        check_choice("backend", backend, ("auto", "message", "sparse", "dense"))
        self.k = k
        self.beta = beta
        self.lam = lam
        self.eps = eps
        self.num_iterations = num_iterations
        self.backend: Backend = backend

    def forward(
        self,
        x: Tensor,
        semantic_edge_index: Tensor,
        batch: Tensor | None = None,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns the propagated features ``(N, D)``.

        With ``return_attention_weights`` it also returns the chosen edges ``(2, E)`` and their weights ``(E,)`` in
        the last repetition, without gradient.
        """
        # Differences of distances, rescaled to [0, 1], would keep few digits in half precision.
        with torch.autocast(x.device.type, enabled=False):
            features = wide(x)
            # In the label graph edges count 1 and the diagonal 2, with or without self loops. Rows sum to 1.
            itself = torch.eye(x.size(0), dtype=torch.bool, device=x.device)
            counts = edge_counts(semantic_edge_index, x.size(0), features.dtype).masked_fill(itself, 2.0)
            label_graph = counts / counts.sum(dim=1, keepdim=True)
            if batch is None:
                out, edge_index, weight = self._refine(features, label_graph)
            else:
                out, edge_index, weight = self._refine_each(features, label_graph, batch)
        out = out.to(x.dtype)
        return (out, (edge_index, weight.detach())) if return_attention_weights else out

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """Returns the weighted features that each edge carries, ``(E, D)``."""
        return weight.unsqueeze(-1) * x_j

    @not_compiled("DynamicGraphConv on a batch of graphs cannot be compiled or exported; give it one graph")
    def _refine_each(self, x: Tensor, label_graph: Tensor, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Refines each graph by itself, with its own neighbours, extremes and gamma."""
        order = batch.argsort(stable=True)
        graphs = [nodes for nodes in order.split(batch.bincount().tolist()) if len(nodes)]
        parts = [self._refine(x[nodes], label_graph[nodes][:, nodes]) for nodes in graphs]
        out = torch.cat([part for part, _, _ in parts])[order.argsort()]
        edge_index = torch.cat([n[edges] for n, (_, edges, _) in zip(graphs, parts, strict=True)], dim=1)
        return out, edge_index, torch.cat([weight for _, _, weight in parts])

    def _refine(self, x: Tensor, label_graph: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        num_nodes = x.size(0)
        k = min(self.k, num_nodes - 1)
        # The node itself comes first.
        distance, neighbours = self._distances(x, label_graph).sort(dim=1, stable=True)
        near, next_nearest = distance[:, 1 : k + 1], distance[:, min(k + 1, num_nodes - 1)]
        neighbours = neighbours[:, 1 : k + 1]
        target = torch.arange(num_nodes, device=x.device)[:, None].expand(-1, k)
        edge_index = torch.stack([neighbours.flatten(), target.flatten()])

        width = (k * next_nearest - near.sum(dim=1)).mean()  # 2 gamma
        rounding = FLAT * torch.finfo(x.dtype).eps * k
        width = (width + 1e-8).masked_fill(width <= rounding, torch.inf)
        closeness = near.mean(dim=1, keepdim=True) - near
        refined = x
        for _ in range(self.num_iterations):
            similarity = _min_max(refined @ refined.t()).gather(1, neighbours)
            weight = (1 / max(k, 1) + (closeness + self.lam * similarity) / width).relu().flatten()
            refined = self.eps * self._propagated(x, edge_index, weight) + (1 - self.eps) * x
        return refined, edge_index, weight

    def _distances(self, x: Tensor, label_graph: Tensor) -> Tensor:
        """Returns ``(N, N)`` in [0, 1], with -1 on the diagonal: each node is nearest to itself, even with ties."""
        products = x @ x.t()
        squares = x.square().sum(dim=1)
        itself = torch.eye(x.size(0), dtype=torch.bool, device=x.device)
        squared = squares[:, None] + squares - 2 * products
        distance = squared.clamp(min=1e-12).sqrt().masked_fill(itself, 0.0)  # at 0 the root has no gradient
        distance = distance - 2 * self.beta * label_graph - 1e-5 * _min_max(products)
        return _min_max(distance).masked_fill(itself, -1.0)

    def _propagated(self, x: Tensor, edge_index: Tensor, weight: Tensor) -> Tensor:
        num_nodes = x.size(0)
        if self.backend == "message":
            return self.propagate(edge_index, x=x, weight=weight, size=(num_nodes, num_nodes))
        if self.backend == "sparse":
            return _weighted_sum(x, edge_index, weight)
        source, target = edge_index
        return x.new_zeros(num_nodes, num_nodes).index_put((target, source), weight) @ x

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(k={self.k}, num_iterations={self.num_iterations})"


@not_compiled(NO_SPARSE)
def _weighted_sum(x: Tensor, edge_index: Tensor, weight: Tensor) -> Tensor:
    return edge_sum(weight, x, compress_edges(edge_index, x.size(0)))


def _min_max(x: Tensor) -> Tensor:
    """Returns the rows rescaled to [0, 1]. A row whose values are all equal becomes 0."""
    # torch.aminmax has no gradient in torch 2.11.
    return rescale(x, x.amin(dim=1, keepdim=True), x.amax(dim=1, keepdim=True), flat=0.0)
