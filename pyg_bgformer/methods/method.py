"""The contract between a method of metric learning and everything that trains, tests and deploys it."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, NotRequired, TypedDict

import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bgformer.encoders import Encoder
from pyg_bgformer.geometry import Geometry


class ParameterGroup(TypedDict):
    """Parameters that are optimised alike: by the group's own settings, or where it has none by the recipe's."""

    name: str
    params: list[nn.Parameter]
    lr: NotRequired[float]
    weight_decay: NotRequired[float]
    schedule: NotRequired[Literal["constant", "cosine", "step"]]


class Update(NamedTuple):
    """One step of the optimiser.

    Attributes:
        loss: Scalar to be lowered.
        terms: Scalars to log, by name; a name comes once in a batch.
        groups: Names of the parameter groups that move; :obj:`None` for all. Others get no gradient.
        zero_filled: Parameters of these groups that the loss does not reach, but that were moved before, get a
            gradient of zero, with which momentum and weight decay go on, instead of none, with which the optimiser
            leaves them alone.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    groups: tuple[str, ...] | None = None
    zero_filled: bool = False


class Refined(NamedTuple):
    """Features ``(N, D)`` of test images that depend on each other.

    Attributes:
        embeddings: Of all test images; of the queries, where there is a gallery.
        gallery: What they are compared with; :obj:`None` without a gallery.
    """

    embeddings: Tensor
    gallery: Tensor | None = None


class Method(nn.Module):
    """An encoder, what its training adds to it, and a loss.

    A subclass is one paper. It implements :meth:`forward` and, where it has parameters of its own,
    :meth:`parameter_groups`; its keyword-only constructor arguments are the options a recipe may set under
    ``method``. The engine knows nothing else of it.

    Args:
        encoder (Encoder): Backbone and embedding head; what is deployed.
        loss (Module): ``(embeddings (N, D), labels (N,)) -> scalar``; its parameters are its proxies.
        geometry (Geometry): The space of the embeddings.
        num_classes (int): Classes that are trained on, for methods with a classifier.
    """

    def __init__(self, encoder: Encoder, loss: nn.Module, geometry: Geometry, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.loss = loss
        self.geometry = geometry
        self.num_classes = num_classes

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Training: ``loss`` and every term of it by name, for images ``(N, 3, S, S)`` and labels ``(N,)``.

        Scalars that say what the batch graph does may stand beside them, detached; all are logged.
        """
        raise NotImplementedError

    def updates(self, images: Tensor, labels: Tensor) -> Iterator[Update]:
        """The optimiser's steps on one batch: by default a single one, on ``loss``.

        A method that takes several overrides this generator. Each update is carried out before the generator is
        asked for the next, which thus already sees the parameters moved.
        """
        terms = self(images, labels)
        yield Update(terms["loss"], terms)

    def close_epoch(self, means: dict[str, float]) -> None:
        """Told the means of all logged scalars over the epoch that has ended. What it keeps must be a buffer."""

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

    def refine_described(
        self, described: dict[str, Tensor], gallery: dict[str, Tensor] | None = None
    ) -> dict[str, Refined]:
        """Further unit features of all test images at once, which may depend on each other; by default none.

        They are a policy of inference, chosen by an option of the method, and are scored beside what
        :meth:`describe` gives, never instead of it.

        Args:
            described: Features of all test images by :meth:`describe`; of the queries, where there is a gallery.
            gallery: Those of the gallery.
        """
        return {}

    def parameter_groups(self) -> list[ParameterGroup]:
        """All parameters, each in exactly one group: ``backbone``, ``head``, ``loss``, and the method's own."""
        return [
            {"name": "backbone", "params": list(self.encoder.backbone.parameters())},
            {"name": "head", "params": list(self.encoder.head.parameters())},
            {"name": "loss", "params": list(self.loss.parameters())},
        ]
