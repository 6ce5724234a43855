"""BGFormer: trains the encoder together with a Batch-Graph Transformer, which is not used at test time."""

from torch import Tensor, nn

from pyg_bgformer.encoders import Encoder
from pyg_bgformer.errors import check_range
from pyg_bgformer.geometry import Geometry
from pyg_bgformer.graph import batch_graph
from pyg_bgformer.methods.method import METHODS
from pyg_bgformer.methods.refining import RefiningMethod
from pyg_bgformer.nn.conv.ssa_conv import Neighbours
from pyg_bgformer.nn.models.bgformer import BGFormer as BGFormerNetwork
from pyg_bgformer.nn.models.bgformer import Branches, Norm, Semantic, Visual
from pyg_bgformer.nn.ops import Edges
from pyg_bgformer.ranges import NonNegativeFloat, PositiveFloat, PositiveInt, Probability, Share


@METHODS.register("bgformer")
class BGFormer(RefiningMethod):
    r"""A method whose blocks refine features along the visual and semantic edges of their batch.

    The blocks are from the `"Rethinking Batch Sample Relationships for Data Representation: A Batch-Graph
    Transformer based Approach" <https://arxiv.org/abs/2211.10622>`_ paper. The loss on both plain and refined
    features, see :class:`RefiningMethod`, is from the later `"Learning Dynamic Batch-Graph Representation for Deep
    Representation Learning" <https://doi.org/10.1007/s11263-024-02175-8>`_ paper of the same authors. The defaults
    are ours: the authors' settings of ``k``, ``lam``, ``alpha`` and ``num_layers`` are not known.

    Args:
        encoder, loss, geometry, num_classes: See :class:`Method`.
        k (int): Number of visual neighbours of each sample, itself included, at least 1. (default: :obj:`15`)
        alpha (float): Weight of the plain features' loss, in [0, 1]. (default: :obj:`0.5`)
        num_layers (int): Number of blocks. (default: :obj:`1`)
        block_lr (float, optional): Learning rate of the blocks. :obj:`None` takes that of the recipe.
            (default: :obj:`None`)
        heads (int): Number of attention heads. They must divide the size of the features. (default: :obj:`8`)
        lam (float): Weight of the visual branch, in [0, 1]. The semantic branch has the rest.
            (default: :obj:`0.5`)
        learn_lam (bool): Learn ``lam``, starting from its value. (default: :obj:`False`)
        branches (str): ``"dual"`` uses visual and semantic edges, ``"visual"`` or ``"semantic"`` only one kind,
            ``"full"`` all pairs of samples. (default: ``"dual"``)
        visual (str): ``"attention"`` or ``"affinity"``, the form of the visual branch without parameters.
            (default: ``"attention"``)
        semantic (str): ``"propagation"`` averages over the samples of a class, ``"attention"`` weighs them.
            (default: ``"propagation"``)
        neighbours (str): ``"graph"`` chooses visual neighbours once, by the cosine of the features. ``"scores"``
            chooses them in each block, by the scores of the visual branch, as the authors' code does.
            (default: ``"graph"``)
        norm (str): ``"graph"``, ``"spread"`` or ``"layer"``, see :class:`~pyg_bgformer.nn.BGFormerLayer`.
            (default: ``"graph"``)
        mlp_ratio (float): Hidden size of the feed-forward networks, in multiples of the size of the features.
            (default: :obj:`4.`)
        dropout (float): Probability of dropping attention weights and outputs of the feed-forward networks, in
            [0, 1). (default: :obj:`0.`)

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
        k: PositiveInt = 15,
        alpha: Share = 0.5,
        num_layers: PositiveInt = 1,
        block_lr: NonNegativeFloat | None = None,
        heads: PositiveInt = 8,
        lam: Share = 0.5,
        learn_lam: bool = False,
        branches: Branches = "dual",
        visual: Visual = "attention",
        semantic: Semantic = "propagation",
        neighbours: Neighbours = "graph",
        norm: Norm = "graph",
        mlp_ratio: PositiveFloat = 4.0,
        dropout: Probability = 0.0,
    ) -> None:
        check_range("k", k, at_least=1)
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
        """Returns the edges of each block and branch: ``layers.0.visual``, ``layers.0.semantic`` and so on."""
        graph = batch_graph(features, labels, self.k)
        _, edges = self.blocks(
            features, graph.visual_edge_index, graph.semantic_edge_index, return_attention_weights=True
        )
        return edges
