"""Losses by name: our own and those of pytorch-metric-learning."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from pyg_bgformer.errors import InputError
from pyg_bgformer.geometry import Geometry, Sphere
from pyg_bgformer.losses.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyLoss
from pyg_bgformer.losses.n_pair import NPairLoss
from pyg_bgformer.losses.pairwise_cross_entropy import PairwiseCrossEntropyLoss
from pyg_bgformer.losses.registry import LOSSES
from pyg_bgformer.registry import Option, signature_options

__all__ = [
    "LOSSES",
    "LabelSmoothedCrossEntropyLoss",
    "NPairLoss",
    "PairwiseCrossEntropyLoss",
    "build_loss",
    "loss_options",
]


def loss_options(name: str) -> dict[str, Option]:
    """Returns the options that a recipe can set for a loss.

    Args:
        name: A name in :data:`LOSSES`, or the name of a loss of pytorch-metric-learning.

    Raises:
        InputError: If there is no loss of that name, or it needs more than embeddings and labels.
    """
    if name in LOSSES:
        return signature_options(LOSSES.find(name), given=("geometry", "num_classes", "embedding_dim"))
    # Imported here, because our own losses do not need the library, which takes a second to import.
    from pyg_bgformer.losses.metric_learning import metric_learning_options

    return metric_learning_options(name)


def build_loss(
    name: str, options: Mapping[str, Any], *, geometry: Geometry, num_classes: int, embedding_dim: int
) -> nn.Module:
    """Returns a loss ``(embeddings (N, D), labels (N,)) -> scalar``. Its parameters are its proxies, if it has any.

    Args:
        name: A name in :data:`LOSSES`, or the name of a loss of pytorch-metric-learning.
        options: Options as in :func:`loss_options`.
        geometry: Space of the embeddings. The losses of pytorch-metric-learning need the sphere.
        num_classes: Number of training classes, for losses with proxies or a classifier.
        embedding_dim: Size of the embeddings.

    Raises:
        InputError: If the name or an option is unknown, or the loss does not fit the geometry.
    """
    if name in LOSSES:
        loss = LOSSES.find(name)
        wanted = inspect.signature(loss.__init__).parameters
        given = {"geometry": geometry, "num_classes": num_classes, "embedding_dim": embedding_dim}
        return loss(**{key: value for key, value in given.items() if key in wanted}, **options)
    if not isinstance(geometry, Sphere):
        raise InputError(f"loss {name} compares embeddings on the sphere; found geometry {geometry}")
    from pyg_bgformer.losses.metric_learning import metric_learning_loss

    return metric_learning_loss(name, options, num_classes=num_classes, embedding_dim=embedding_dim)
