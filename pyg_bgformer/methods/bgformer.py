"""BGFormer: the encoder trained together with a Batch-Graph Transformer that is left behind at test time."""

from torch import Tensor, nn

from pyg_bgformer.encoders import Encoder
from pyg_bgformer.geometry import Geometry
from pyg_bgformer.graph import batch_graph
from pyg_bgformer.methods.method import METHODS
from pyg_bgformer.methods.refining import RefiningMethod
from pyg_bgformer.nn.conv.ssa_conv import Neighbours
from pyg_bgformer.nn.models.bgformer import BGFormer as BGFormerNetwork
from pyg_bgformer.nn.models.bgformer import Branches, Norm, Semantic, Visual
from pyg_bgformer.nn.ops import Edges


@METHODS.register("bgformer")
class BGFormer(RefiningMethod):
    r"""Features refined by a Batch-Graph Transformer along the visual and semantic edges of their batch.

    The blocks are from the `"Rethinking Batch Sample Relationships for Data Representation: A Batch-Graph
    Transformer based Approach" <https://arxiv.org/abs/2211.10622>`_ paper; the weight :math:`\alpha` of
    :class:`RefiningMethod` is that of its authors' later `"Learning Dynamic Batch-Graph Representation for Deep
    Representation Learning" <https://doi.org/10.1007/s11263-024-02175-8>`_.

    Args:
        encoder, loss, geometry, num_classes: See :class:`Method`.
        k (int): Visual neighbours of each sample. (default: :obj:`15`)
        alpha (float): Weight of the plain features' loss, in [0, 1]. (default: :obj:`0.5`)
        num_layers (int): Number of blocks. (default: :obj:`1`)
        block_lr (float, optional): Learning rate of the blocks, where it is not the encoder's.
        heads, lam, learn_lam, branches, visual, semantic, neighbours, norm, mlp_ratio, dropout:
            See :class:`~pyg_bgformer.nn.BGFormerLayer`.

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
        k: int = 15,
        alpha: float = 0.5,
        num_layers: int = 1,
        block_lr: float | None = None,
        heads: int = 8,
        lam: float = 0.5,
        learn_lam: bool = False,
        branches: Branches = "dual",
        visual: Visual = "attention",
        semantic: Semantic = "propagation",
        neighbours: Neighbours = "graph",
        norm: Norm = "graph",
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
    ) -> None:
        if k < 1:
            raise ValueError(f"k must be at least 1, found {k}")
        blocks = BGFormerNetwork(
            encoder.feature_dim,
            num_layers,
            heads,
            k=k if neighbours == "scores" and branches in ("dual", "visual") else None,
            lam=lam,
            learn_lam=learn_lam,
            branches=branches,
            visual=visual,
            semantic=semantic,
            neighbours=neighbours,
            norm=norm,
            mlp_ratio=mlp_ratio,
            dropout=dropout,
        )
        super().__init__(encoder, loss, geometry, num_classes, blocks, alpha, block_lr)
        self.k = k

    def refine(self, features: Tensor, labels: Tensor) -> Tensor:
        """Returns the refined features ``(N, F)``."""
        graph = batch_graph(features, labels, self.k)
        return self.blocks(features, graph.visual_edge_index, graph.semantic_edge_index)

    def edges(self, features: Tensor, labels: Tensor) -> Edges:
        """Returns the edges of each branch and block: ``layers.0.visual``, ``layers.0.semantic`` and so on."""
        graph = batch_graph(features, labels, self.k)
        _, edges = self.blocks(
            features, graph.visual_edge_index, graph.semantic_edge_index, return_attention_weights=True
        )
        return edges
