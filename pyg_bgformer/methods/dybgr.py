"""DyBGR: the encoder trained together with a learned batch graph that is left behind at test time."""

from torch import Tensor, nn

from pyg_bgformer.encoders import Encoder
from pyg_bgformer.geometry import Geometry
from pyg_bgformer.graph import batch_graph
from pyg_bgformer.methods.method import METHODS
from pyg_bgformer.methods.refining import RefiningMethod
from pyg_bgformer.nn.models.dybgr import DyBGRNetwork
from pyg_bgformer.nn.ops import Edges


@METHODS.register("dybgr")
class DyBGR(RefiningMethod):
    r"""Features refined along a graph that is learned from them and the labels.

    The blocks are from the `"Learning Dynamic Batch-Graph Representation for Deep Representation Learning"
    <https://doi.org/10.1007/s11263-024-02175-8>`_ paper, and so is :math:`\alpha`, which its authors set to 0.01
    (CUB-200-2011, In-Shop) or 0.07 (Cars196, SOP).

    Args:
        encoder, loss, geometry, num_classes: See :class:`Method`.
        k (int): Neighbours of each sample. (default: :obj:`30`)
        alpha (float): Weight of the plain features' loss, in [0, 1]. (default: :obj:`0.5`)
        num_layers (int): Number of blocks. (default: :obj:`2`)
        block_lr (float, optional): Learning rate of the blocks, where it is not the encoder's.
        beta, lam, eps, num_iterations: See :class:`~pyg_bgformer.nn.DynamicGraphConv`.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(
        self,
        encoder: Encoder,
        loss: nn.Module,
        geometry: Geometry,
        num_classes: int,
        *,
        k: int = 30,
        alpha: float = 0.5,
        num_layers: int = 2,
        block_lr: float | None = None,
        beta: float = 0.5,
        lam: float = 0.3,
        eps: float = 0.5,
        num_iterations: int = 3,
    ) -> None:
        blocks = DyBGRNetwork(
            encoder.feature_dim,
            num_layers,
            k,
            beta=beta,
            lam=lam,
            eps=eps,
            num_iterations=num_iterations,
        )
        super().__init__(encoder, loss, geometry, num_classes, blocks, alpha, block_lr)

    def refine(self, features: Tensor, labels: Tensor) -> Tensor:
        """Returns the refined features ``(N, F)``."""
        return self.blocks(features, batch_graph(features, labels).semantic_edge_index)

    def edges(self, features: Tensor, labels: Tensor) -> Edges:
        """Returns the graph that each block chooses: ``layers.0.propagation`` and so on."""
        graph = batch_graph(features, labels)
        _, edges = self.blocks(features, graph.semantic_edge_index, return_attention_weights=True)
        return edges
