"""Samplers, which choose the images of each batch, one rule a file."""

import inspect
from typing import Any

import numpy as np

from pyg_bgformer.data.samplers.chunk_sampler import ChunkSampler
from pyg_bgformer.data.samplers.hierarchical_sampler import HierarchicalSampler
from pyg_bgformer.data.samplers.pk_sampler import PKSampler
from pyg_bgformer.data.samplers.planned_sampler import SAMPLERS, Draw, PlannedSampler
from pyg_bgformer.data.samplers.random_sampler import RandomSampler
from pyg_bgformer.errors import InputError
from pyg_bgformer.registry import Option, signature_options

__all__ = [
    "SAMPLERS",
    "ChunkSampler",
    "Draw",
    "HierarchicalSampler",
    "PKSampler",
    "PlannedSampler",
    "RandomSampler",
    "build_sampler",
    "sampler_options",
]

GIVEN = ("seed", "super_class_labels")
"""Arguments of samplers that the program itself supplies."""


def sampler_options(name: str) -> dict[str, Option]:
    """Returns the options that a recipe can set for a sampler.

    Args:
        name: A name in :data:`SAMPLERS`.

    Raises:
        InputError: If there is no sampler of that name.
    """
    return signature_options(SAMPLERS.find(name), GIVEN)


def build_sampler(
    name: str,
    labels: np.ndarray,
    *,
    super_class_labels: np.ndarray | None = None,
    seed: int,
    **options: Any,
) -> PlannedSampler:
    """Returns the sampler of that name.

    Args:
        name: A name in :data:`SAMPLERS`.
        labels: Class of each training image, shape ``(N,)``.
        super_class_labels: Super-class of each training image, shape ``(N,)``, if the dataset has super-classes.
        seed: A seed that, together with the number of the epoch, decides the batches.
        **options: See :func:`sampler_options`.

    Raises:
        InputError: If there is no sampler of that name, it needs super-classes and there are none, or an option
            does not fit the images.
    """
    sampler = SAMPLERS.find(name)
    if "super_class_labels" in inspect.signature(sampler.__init__).parameters:
        if super_class_labels is None:
            raise InputError(
                f"sampler.name: {name} needs super-classes, but the dataset has none; use sampler.name: classes"
            )
        options["super_class_labels"] = super_class_labels
    return sampler(labels, seed=seed, **options)
