"""The contract between a method of metric learning and everything that trains, evaluates and deploys it."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, NotRequired, TypedDict

import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bgformer.encoders import Encoder
from pyg_bgformer.geometry import Geometry
from pyg_bgformer.nn.ops import Edges
from pyg_bgformer.registry import Option, Registry, signature_options


class ParameterGroup(TypedDict):
    """Parameters that share optimiser settings. A setting that is not given here is the recipe's."""

    name: str
    params: list[nn.Parameter]
    lr: NotRequired[float]
    weight_decay: NotRequired[float]
    schedule: NotRequired[Literal["constant", "cosine", "step"]]


class Update(NamedTuple):
    """One optimiser step.

    Attributes:
        loss: The scalar to minimise.
        terms: Scalars to log, by name. A name is used once in a batch.
        groups: Names of the parameter groups that move; :obj:`None` for all. Others get no gradient.
        zero_filled: How parameters are treated that the loss does not reach, but that an earlier step moved. With
            :obj:`True` they get a gradient of zero, so momentum and weight decay still move them. With
            :obj:`False` they get no gradient, and the optimiser leaves them alone.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    groups: tuple[str, ...] | None = None
    zero_filled: bool = False


class KReciprocalRefinement(NamedTuple):
    """At test time each image is refined in a batch with its k-reciprocal neighbours.

    Attributes:
        k: Neighbours of an image.
        batch: Size of a batch, the image itself included.
    """

    k: int
    batch: int


class Method(nn.Module):
    """An encoder, what its training adds to it, and a loss.

    A subclass is one paper. It implements :meth:`forward` and, where it has parameters of its own,
    :meth:`parameter_groups`. A method with a batch graph also implements :meth:`edges`. The keyword-only arguments
    of the constructor are the options that a recipe may set under ``method``. The engine knows nothing else of it.

    A method sees features and labels, never images: the engine encodes a batch with ``encoder.features``.

    Args:
        encoder (Encoder): Backbone and embedding head; what is deployed.
        loss (Module): ``(embeddings (N, D), labels (N,)) -> scalar``; its parameters are its proxies.
        geometry (Geometry): The space of the embeddings.
        num_classes (int): Number of training classes, for methods with a classifier.
    """

    test_refinement: KReciprocalRefinement | None = None
    """The policy by which test images refine each other, or :obj:`None`; see :meth:`refine_batches`."""

    def __init__(self, encoder: Encoder, loss: nn.Module, geometry: Geometry, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.loss = loss
        self.geometry = geometry
        self.num_classes = num_classes

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Returns ``loss``, every term of it by name, and any other scalars to log (detached).

        Args:
            features: Backbone features ``(N, F)`` of the whole batch, with gradient.
            labels: Their classes ``(N,)``.
        """
        raise NotImplementedError

    def updates(self, features: Tensor, labels: Tensor) -> Iterator[Update]:
        """Yields the optimiser steps on one batch: by default a single one, on ``loss``.

        A method that takes several steps overrides this generator. The engine carries out each update before it
        asks for the next one, which therefore sees the moved parameters. Only one update can send gradients into
        the encoder: later ones use ``features.detach()``.

        Args:
            features: See :meth:`forward`.
            labels: See :meth:`forward`.
        """
        terms = self(features, labels)
        yield Update(terms["loss"], terms)

    def edges(self, features: Tensor, labels: Tensor) -> Edges:
        """Returns the batch graph as the method sees it; a method without a graph returns an empty dict.

        The engine logs ``same_class_attention`` and ``edge_homophily`` of the first entry. It calls this method in
        eval mode and without gradient.

        Args:
            features: Backbone features ``(N, F)``.
            labels: Their classes ``(N,)``.
        """
        return {}

    def close_epoch(self, means: dict[str, float]) -> None:
        """Receives the means of all logged scalars at the end of an epoch. State kept from them must be a buffer.

        Args:
            means: Mean of each scalar over the batches of the epoch, by name.
        """

    def embed(self, images: Tensor) -> Tensor:
        """Returns embeddings ``(N, D)`` in the geometry's space, in eval mode independent of each other.

        Args:
            images: Normalised images ``(N, 3, S, S)``.
        """
        return self.geometry.project(self.encoder(images))

    def extract(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the features that are evaluated, computed in one pass.

        Args:
            images: Normalised images ``(N, 3, S, S)``.

        Returns:
            ``backbone``, unit vectors ``(N, F)`` before the head, and ``embedding``, the result of :meth:`embed`.
        """
        features = self.encoder.features(images)
        return {
            "backbone": F.normalize(features.float(), dim=1),
            "embedding": self.geometry.project(self.encoder.head(features)),
        }

    def refine_batches(self, embeddings: Tensor) -> Tensor:
        """Returns refined unit vectors ``(G, D)`` of the first image of each of G small batches.

        The engine calls it where :attr:`test_refinement` is set. The refined vectors are evaluated in addition to
        those of :meth:`extract`, never instead of them, because they depend on the other test images.

        Args:
            embeddings: ``(G, n, D)``: an image and its neighbours, for each of G images.
        """
        raise NotImplementedError

    def parameter_groups(self) -> list[ParameterGroup]:
        """Returns all parameters, each in exactly one group: ``backbone``, ``head``, ``loss``, the method's own."""
        return [
            {"name": "backbone", "params": list(self.encoder.backbone.parameters())},
            {"name": "head", "params": list(self.encoder.head.parameters())},
            {"name": "loss", "params": list(self.loss.parameters())},
        ]


METHODS: Registry[type[Method]] = Registry("method")
"""Methods by the name that a recipe writes: ``@METHODS.register("gat")`` above a class adds one."""


def method_options(name: str) -> dict[str, Option]:
    """Returns the options of a method: the keyword-only arguments of its constructor.

    Args:
        name: The method's name in :data:`METHODS`.

    Raises:
        InputError: If there is no method of that name.
    """
    return signature_options(METHODS.find(name))
