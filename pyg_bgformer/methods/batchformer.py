"""BatchFormer: trains the encoder together with self-attention over the batch, which is not used at test time."""

from torch import Tensor, nn

from pyg_bgformer.encoders import Encoder
from pyg_bgformer.geometry import Geometry
from pyg_bgformer.methods.method import METHODS
from pyg_bgformer.methods.refining import RefiningMethod
from pyg_bgformer.nn.models.batchformer import BatchFormerNetwork
from pyg_bgformer.nn.ops import Edges
from pyg_bgformer.ranges import NonNegativeFloat, PositiveInt, Probability, Share


@METHODS.register("batchformer")
class BatchFormer(RefiningMethod):
    r"""A method whose block refines features by ordinary self-attention over their batch.

    The block is from the `"BatchFormer: Learning to Explore Sample Relationships for Robust Representation
    Learning" <https://arxiv.org/abs/2203.01522>`_ paper. In the paper, plain and refined features are one batch of
    double size for one classifier. Its mean loss gives both halves the same weight, :math:`\alpha = 0.5`. Here the
    loss is computed on each half alone: losses of pairs compare plain with plain and refined with refined features.

    Args:
        encoder, loss, geometry, num_classes: See :class:`Method`.
        alpha (float): Weight of the plain features' loss, in [0, 1]. (default: :obj:`0.5`)
        block_lr (float, optional): Learning rate of the block. :obj:`None` takes that of the recipe.
            (default: :obj:`None`)
        heads (int): Number of attention heads. They must divide the size of the features. (default: :obj:`4`)
        dropout (float): Probability of dropping attention weights, hidden units and outputs, in [0, 1).
            (default: :obj:`0.5`)

    Raises:
        InputError: If an option is out of its range.
    """

    blocks: BatchFormerNetwork

    def __init__(
        self,
        encoder: Encoder,
        loss: nn.Module,
        geometry: Geometry,
        num_classes: int,
        *,
        alpha: Share = 0.5,
        block_lr: NonNegativeFloat | None = None,
        heads: PositiveInt = 4,
        dropout: Probability = 0.5,
    ) -> None:
        block = BatchFormerNetwork(encoder.feature_dim, heads, dropout)
        super().__init__(encoder, loss, geometry, num_classes, block, alpha, block_lr)

    def refine(self, features: Tensor, labels: Tensor) -> Tensor:
        """Returns the refined features ``(N, F)``."""
        return self.blocks(features)

    def edges(self, features: Tensor, labels: Tensor) -> Edges:
        """Returns all pairs of samples and the attention weights of each head: ``block.self_attn``."""
        _, edges = self.blocks(features, return_attention_weights=True)
        return edges
