"""The contract between a method of metric learning and everything that trains, tests and deploys it."""

from typing import NotRequired, TypedDict

import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bgformer.encoders import Encoder
from pyg_bgformer.geometry import Geometry


class ParameterGroup(TypedDict):
    """Parameters that share a learning rate: the group's own, or where there is none the recipe's for its name."""

    name: str
    params: list[nn.Parameter]
    lr: NotRequired[float]


class Method(nn.Module):
    """An encoder, what its training adds to it, and a loss.

    A subclass is one paper. It implements :meth:`forward` and, where it has parameters of its own,
    :meth:`parameter_groups`; its keyword-only constructor arguments are the options a recipe may set under
    ``method``. The engine knows nothing else of it.

    Args:
        encoder (Encoder): Backbone and embedding head; what is deployed.
        loss (Module): ``(embeddings (N, D), labels (N,)) -> scalar``; its parameters are its proxies.
        geometry (Geometry): The space of the embeddings.
    """

    def __init__(self, encoder: Encoder, loss: nn.Module, geometry: Geometry) -> None:
        super().__init__()
        self.encoder = encoder
        self.loss = loss
        self.geometry = geometry

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Training: ``loss`` and every term of it by name, for images ``(N, 3, S, S)`` and labels ``(N,)``."""
        raise NotImplementedError

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings ``(N, D)`` in the geometry's space, in eval mode independent of each other."""
        return self.geometry.project(self.encoder(images))

    def describe(self, images: Tensor) -> dict[str, Tensor]:
        """What is tested, in one pass: ``backbone``, the unit features ``(N, F)`` before the head, and
        ``embedding``, the same as :meth:`embed`."""
        features = self.encoder.features(images)
        return {
            "backbone": F.normalize(features.float(), dim=1),
            "embedding": self.geometry.project(self.encoder.head(features)),
        }

    def parameter_groups(self) -> list[ParameterGroup]:
        """All parameters, each in exactly one group: ``backbone``, ``head``, ``loss``, and the method's own."""
        return [
            {"name": "backbone", "params": list(self.encoder.backbone.parameters())},
            {"name": "head", "params": list(self.encoder.head.parameters())},
            {"name": "loss", "params": list(self.loss.parameters())},
        ]
