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
    """Parameters that share optimiser settings. Settings that are not given here are those of the recipe."""

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
        groups: Names of the parameter groups that this step changes, or :obj:`None` for all. Parameters of other
            groups get no gradient.
        zero_filled: Concerns parameters that this loss does not depend on, but that an earlier step changed. With
            :obj:`True` they get a gradient of zero, so momentum and weight decay still change them. With
            :obj:`False` they get no gradient, and the optimiser leaves them alone.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    groups: tuple[str, ...] | None = None
    zero_filled: bool = False


class KReciprocalRefinement(NamedTuple):
    """Settings of the refinement at test time, where each image is refined together with similar test images.

    Attributes:
        k: Number of nearest neighbours among which reciprocal ones are looked for.
        batch: Number of images that are refined together, the image itself included.
    """

    k: int
    batch: int


class Method(nn.Module):
    """The base of all methods: an encoder, a loss, and what only training needs.

    A subclass is one paper. It implements :meth:`forward` and, if it has parameters of its own,
    :meth:`parameter_groups`. A method with a batch graph also implements :meth:`edges`. The keyword-only arguments
    of the constructor are the options that a recipe may set under ``method``. The engine uses nothing else of it.

    A method sees features and labels, never images: the engine encodes a batch with ``encoder.features``.

    Args:
        encoder (Encoder): Backbone and embedding head. It alone is deployed.
        loss (Module): ``(embeddings (N, D), labels (N,)) -> scalar``. Its parameters are its proxies.
        geometry (Geometry): The space of the embeddings.
        num_classes (int): Number of training classes, for methods with a classifier.
    """

    test_refinement: KReciprocalRefinement | None = None
    """How test images refine each other, or :obj:`None` if they do not; see :meth:`refine_batches`."""

    def __init__(self, encoder: Encoder, loss: nn.Module, geometry: Geometry, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.loss = loss
        self.geometry = geometry
        self.num_classes = num_classes

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Returns the ``loss``, each of its terms by name, and other scalars to log, which are detached.

        Args:
            features: Backbone features ``(N, F)`` of the whole batch, with gradient.
            labels: Their classes ``(N,)`` int64, numbered from 0.
        """
        raise NotImplementedError

    def updates(self, features: Tensor, labels: Tensor) -> Iterator[Update]:
        """Yields the optimiser steps on one batch. By default this is a single step on the ``loss``.

        A method that takes several steps overrides this generator. The engine carries out each update before it
        asks for the next one, which therefore sees the changed parameters. Only one update can send gradients into
        the encoder: later ones use ``features.detach()``.

        Args:
            features: See :meth:`forward`.
            labels: See :meth:`forward`.
        """
        terms = self(features, labels)
        yield Update(terms["loss"], terms)

    def edges(self, features: Tensor, labels: Tensor) -> Edges:
        """Returns the edges of the batch graph as the method uses it. By default there are none.

        The engine logs ``same_class_attention`` and ``edge_homophily`` of the first entry. It calls this method in
        evaluation mode and without gradient.

        Args:
            features: Backbone features ``(N, F)``.
            labels: Their classes ``(N,)``.

        Returns:
            Edge indices ``(2, E)`` and weights ``(E,)`` or ``(E, H)`` of each layer, by the name of the layer.
        """
        return {}

    def close_epoch(self, means: dict[str, float]) -> None:
        """Receives the means of all logged scalars at the end of an epoch. By default it does nothing.

        A method that keeps values from here keeps them in buffers, so that checkpoints contain them.

        Args:
            means: Mean of each scalar over the batches of the epoch, by name.
        """

    def embed(self, images: Tensor) -> Tensor:
        """Returns embeddings ``(N, D)`` in the geometry's space.

        In evaluation mode the embedding of an image does not depend on the other images.

        Args:
            images: Normalised images ``(N, 3, S, S)``.
        """
        return self.geometry.project(self.encoder(images))

    def extract(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the vectors that are evaluated, from one pass of the encoder.

        Args:
            images: Normalised images ``(N, 3, S, S)``.

        Returns:
            ``backbone``: the features before the head as unit vectors ``(N, F)``, float32. ``embedding``: the
            result of :meth:`embed`.
        """
        features = self.encoder.features(images)
        return {
            "backbone": F.normalize(features.float(), dim=1),
            "embedding": self.geometry.project(self.encoder.head(features)),
        }

    def refine_batches(self, embeddings: Tensor) -> Tensor:
        """Returns refined unit vectors ``(G, D)``, one for the first image of each of G small batches.

        The engine calls it if :attr:`test_refinement` is set. Refined vectors depend on the other test images.
        They are therefore evaluated in addition to those of :meth:`extract`, never instead of them.

        Args:
            embeddings: ``(G, n, D)``: for each of G images its own embedding, then those of its neighbours.
        """
        raise NotImplementedError

    def parameter_groups(self) -> list[ParameterGroup]:
        """Returns the parameters of ``backbone``, ``head`` and ``loss``. A method with others adds groups for them.

        Each trainable parameter must be in exactly one group.
        """
        return [
            {"name": "backbone", "params": list(self.encoder.backbone.parameters())},
            {"name": "head", "params": list(self.encoder.head.parameters())},
            {"name": "loss", "params": list(self.loss.parameters())},
        ]


METHODS: Registry[type[Method]] = Registry("method")
"""Methods by name. ``@METHODS.register("gat")`` above a class adds it under the name ``gat``."""


def method_options(name: str) -> dict[str, Option]:
    """Returns the options of a method: the keyword-only arguments of its constructor.

    Args:
        name: The method's name in :data:`METHODS`.

    Raises:
        InputError: If there is no method of that name.
    """
    return signature_options(METHODS.find(name))
