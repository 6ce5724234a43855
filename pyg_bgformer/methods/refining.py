"""The base of methods that train on plain and refined features through one shared head and loss."""

import torch
from torch import Tensor, nn

from pyg_bgformer.encoders import Encoder
from pyg_bgformer.errors import check_range
from pyg_bgformer.geometry import Geometry
from pyg_bgformer.methods.method import Method, ParameterGroup


class RefiningMethod(Method):
    r"""A method whose blocks refine the backbone features of a batch during training. Tests use the encoder alone.

    The blocks turn features :math:`P` into :math:`Q`. The loss is
    :math:`\alpha \, \ell(\textrm{head}(P)) + (1 - \alpha) \, \ell(\textrm{head}(Q))`. Gradients of both terms
    reach the encoder. A subclass passes its blocks on and implements :meth:`refine`.

    Args:
        encoder, loss, geometry, num_classes: See :class:`Method`.
        blocks (Module): The network that refines features.
        alpha (float): Weight of the plain features' loss, in [0, 1].
        block_lr (float, optional): Learning rate of the blocks. :obj:`None` takes that of the recipe.

    Raises:
        InputError: If ``alpha`` is out of its range.
    """

    def __init__(
        self,
        encoder: Encoder,
        loss: nn.Module,
        geometry: Geometry,
        num_classes: int,
        blocks: nn.Module,
        alpha: float,
        block_lr: float | None,
    ) -> None:
        super().__init__(encoder, loss, geometry, num_classes)
        check_range("alpha", alpha, at_least=0, at_most=1)
        self.blocks = blocks
        self.alpha = alpha
        self.block_lr = block_lr

    def refine(self, features: Tensor, labels: Tensor) -> Tensor:
        """Returns the refined features ``(N, F)`` of a batch.

        Args:
            features: Backbone features ``(N, F)``.
            labels: Their classes ``(N,)``.
        """
        raise NotImplementedError

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Returns the ``loss`` and its terms ``plain`` and ``refined``."""
        outputs = self.encoder.head(torch.cat([features, self.refine(features, labels)]))
        plain, refined = self.geometry.project(outputs).chunk(2)
        terms = {"plain": self.loss(plain, labels), "refined": self.loss(refined, labels)}
        return {"loss": self.alpha * terms["plain"] + (1 - self.alpha) * terms["refined"], **terms}

    def parameter_groups(self) -> list[ParameterGroup]:
        """Returns the groups of :class:`Method` and the group ``blocks``."""
        blocks: ParameterGroup = {"name": "blocks", "params": list(self.blocks.parameters())}
        if self.block_lr is not None:
            blocks["lr"] = self.block_lr
        return [*super().parameter_groups(), blocks]
