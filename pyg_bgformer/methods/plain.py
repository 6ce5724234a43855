"""The encoder with a loss on its embeddings: what every batch-graph method is compared with."""

from torch import Tensor

from pyg_bgformer.methods.method import Method


class Plain(Method):
    """Trains the encoder by the loss alone. It has no options."""

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``loss``."""
        return {"loss": self.loss(self.embed(images), labels)}
