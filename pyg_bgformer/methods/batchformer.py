"""BatchFormer: the encoder trained together with self-attention over its batch that is left behind at test time."""

from torch import Tensor, nn

from pyg_bgformer.encoders import Encoder
from pyg_bgformer.geometry import Geometry
from pyg_bgformer.methods.method import METHODS
from pyg_bgformer.methods.refining import RefiningMethod
from pyg_bgformer.nn.models.batchformer import BatchFormerNetwork
from pyg_bgformer.nn.ops import Edges


@METHODS.register("batchformer")
class BatchFormer(RefiningMethod):
    r"""Features refined by ordinary self-attention over their batch.

    The block is from the `"BatchFormer: Learning to Explore Sample Relationships for Robust Representation
    Learning" <https://arxiv.org/abs/2203.01522>`_ paper. There plain and refined features are one batch of double
    size under one classifier, whose mean loss weighs both alike: :math:`\alpha = 0.5`. Here each half is a batch of
    its own, so that losses of pairs compare plain with plain and refined with refined features.

    Args:
        encoder, loss, geometry, num_classes: See :class:`Method`.
        alpha (float): Weight of the plain features' loss, in [0, 1]. (default: :obj:`0.5`)
        block_lr (float, optional): Learning rate of the block, where it is not the encoder's.
        heads, dropout: See :class:`~pyg_bgformer.nn.BatchFormerNetwork`.

    Raises:
        ValueError: If an option is out of its range.
    """

    blocks: BatchFormerNetwork

    def __init__(
        self,
        encoder: Encoder,
        loss: nn.Module,
        geometry: Geometry,
        num_classes: int,
        *,
        alpha: float = 0.5,
        block_lr: float | None = None,
        heads: int = 4,
        dropout: float = 0.5,
    ) -> None:
        block = BatchFormerNetwork(encoder.feature_dim, heads, dropout)
        super().__init__(encoder, loss, geometry, num_classes, block, alpha, block_lr)

    def refine(self, features: Tensor, labels: Tensor) -> Tensor:
        """Returns the refined features ``(N, F)``."""
        return self.blocks(features)

    def edges(self, features: Tensor, labels: Tensor) -> Edges:
        """Returns all pairs, weighed by the attention of each head."""
        _, edges = self.blocks(features, return_attention_weights=True)
        return edges
