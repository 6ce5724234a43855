"""The encoder with a loss on its embeddings: what every batch-graph method is compared with."""

from torch import Tensor

from pyg_bgformer.methods.method import METHODS, Method


@METHODS.register("plain")
class Plain(Method):
    """Trains the encoder by the loss alone. It has no options."""

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Returns ``loss``."""
        return {"loss": self.loss(self.geometry.project(self.encoder.head(features)), labels)}
