"""DyBGR: trains the encoder together with a learned batch graph, which is not used at test time."""

from torch import Tensor, nn

from pyg_bgformer.encoders import Encoder
from pyg_bgformer.geometry import Geometry
from pyg_bgformer.graph import batch_graph
from pyg_bgformer.methods.method import METHODS
from pyg_bgformer.methods.refining import RefiningMethod
from pyg_bgformer.nn.models.dybgr import DyBGRNetwork
from pyg_bgformer.nn.ops import Edges
from pyg_bgformer.ranges import NonNegativeFloat, PositiveInt, Share


@METHODS.register("dybgr")
class DyBGR(RefiningMethod):
    r"""A method whose blocks refine features along a graph that is learned from the features and the labels.

    Blocks and loss are from the `"Learning Dynamic Batch-Graph Representation for Deep Representation Learning"
    <https://doi.org/10.1007/s11263-024-02175-8>`_ paper. Its authors set :math:`\alpha` to 0.01 (CUB-200-2011,
    In-Shop) or 0.07 (Cars196, SOP).

    Args:
        encoder, loss, geometry, num_classes: See :class:`Method`.
        k (int): Number of neighbours of each sample, at least 1. (default: :obj:`30`)
        alpha (float): Weight of the plain features' loss, in [0, 1]. (default: :obj:`0.5`)
        num_layers (int): Number of blocks. (default: :obj:`2`)
        block_lr (float, optional): Learning rate of the blocks. :obj:`None` takes that of the recipe.
            (default: :obj:`None`)
        beta (float): How much labels shorten the distances by which neighbours are chosen, at least 0.
            (default: :obj:`0.5`)
        lam (float): Weight of the refined features' similarity in the graph, at least 0. (default: :obj:`0.3`)
        eps (float): Share of the neighbours in a refined feature, in [0, 1]. (default: :obj:`0.5`)
        num_iterations (int): How often graph and features refine each other in a block, at least 1.
            (default: :obj:`3`)

    Raises:
        InputError: If an option is out of its range.
    """

    def __init__(
        self,
        encoder: Encoder,
        loss: nn.Module,
        geometry: Geometry,
        num_classes: int,
        *,
        k: PositiveInt = 30,
        alpha: Share = 0.5,
        num_layers: PositiveInt = 2,
        block_lr: NonNegativeFloat | None = None,
        beta: NonNegativeFloat = 0.5,
        lam: NonNegativeFloat = 0.3,
        eps: Share = 0.5,
        num_iterations: PositiveInt = 3,
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
        """Returns the graph that each block learns: ``layers.0.propagation`` and so on."""
        graph = batch_graph(features, labels)
        _, edges = self.blocks(features, graph.semantic_edge_index, return_attention_weights=True)
        return edges
