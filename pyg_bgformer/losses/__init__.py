"""Losses by name: ours, and all of pytorch-metric-learning's."""

import inspect
from typing import Any, get_type_hints

from torch import nn

from pyg_bgformer.errors import InputError
from pyg_bgformer.geometry import Geometry, Sphere
from pyg_bgformer.losses.label_smoothed_cross_entropy import LabelSmoothedCrossEntropy
from pyg_bgformer.losses.library import REQUIRED
from pyg_bgformer.losses.metric_learning import loss_options as library_options
from pyg_bgformer.losses.metric_learning import metric_learning_loss
from pyg_bgformer.losses.n_pair import NPair
from pyg_bgformer.losses.pairwise_cross_entropy import PairwiseCrossEntropy

LOSSES: dict[str, type[nn.Module]] = {
    "pairwise_cross_entropy": PairwiseCrossEntropy,
    "label_smoothed_cross_entropy": LabelSmoothedCrossEntropy,
    "n_pair": NPair,
}
"""Our own losses. What their constructors take of ``GIVEN`` they are given, all else are options of a recipe."""

GIVEN = ("geometry", "num_classes", "embedding_dim")

__all__ = [
    "LOSSES",
    "REQUIRED",
    "LabelSmoothedCrossEntropy",
    "NPair",
    "PairwiseCrossEntropy",
    "build_loss",
    "loss_options",
    "metric_learning_loss",
]


def loss_options(name: str) -> dict[str, tuple[Any, Any]]:
    """Type and default (or :data:`REQUIRED`) of each option that a recipe may set for a loss.

    Raises:
        InputError: If there is no loss of that name, ours or the library's.
    """
    if name not in LOSSES:
        options = {key: (_type(default), default) for key, default in library_options(name).items()}
        return {**options, "miner": (str | None, None), "miner_options": (dict[str, Any] | None, None)}
    types = get_type_hints(LOSSES[name].__init__)
    parameters = inspect.signature(LOSSES[name].__init__).parameters
    return {
        key: (types[key], parameter.default)
        for key, parameter in parameters.items()
        if key not in ("self", *GIVEN)
    }


def build_loss(
    name: str, options: dict[str, Any], *, geometry: Geometry, num_classes: int, embedding_dim: int
) -> nn.Module:
    """A loss ``(embeddings (N, D), labels (N,)) -> scalar`` with its proxies, if it has any.

    Args:
        name: Of :data:`LOSSES`, or of a loss of pytorch-metric-learning.
        options: As in :func:`loss_options`.
        geometry: Space of the embeddings; the library's losses know the sphere only.
        num_classes: Classes that are trained on, for losses with proxies.
        embedding_dim: D.

    Raises:
        InputError: If the name or an option is not known, or the loss does not fit the geometry.
    """
    if name in LOSSES:
        given = {"geometry": geometry, "num_classes": num_classes, "embedding_dim": embedding_dim}
        wanted = inspect.signature(LOSSES[name].__init__).parameters
        return LOSSES[name](**{key: given[key] for key in GIVEN if key in wanted}, **options)
    if not isinstance(geometry, Sphere):
        raise InputError(f"loss {name} compares embeddings on the sphere; found geometry {geometry}")
    return metric_learning_loss(name, num_classes=num_classes, embedding_dim=embedding_dim, **options)


def _type(default: Any) -> Any:
    """What a recipe may write for an option that its library documents by a default alone."""
    if isinstance(default, bool):
        return bool
    if isinstance(default, str):
        return int | float | str  # words such as "all" stand beside numbers
    return float | int if isinstance(default, float | int) else Any
