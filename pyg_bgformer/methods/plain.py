"""Plain training: a loss on the embeddings of the encoder. Every batch-graph method is compared with it."""

from torch import Tensor

from pyg_bgformer.methods.method import METHODS, Method


@METHODS.register("plain")
class Plain(Method):
    """Trains the encoder with the loss alone. It has no options."""

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Returns the ``loss``."""
        return {"loss": self.loss(self.geometry.project(self.encoder.head(features)), labels)}
