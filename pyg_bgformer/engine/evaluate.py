"""What a method's embeddings are worth, and whether they may be believed."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor

from pyg_bgformer.config.schema import Config
from pyg_bgformer.engine.setup import Batches
from pyg_bgformer.evaluation import EvaluationResult, batch_dependence, evaluate
from pyg_bgformer.geometry import Sphere
from pyg_bgformer.methods import Method, Refined

LEAKAGE_LIMIT = 1e-4
"""Largest change of an embedding, relative to its norm, that rounding may cause when its batch changes."""

LEAKAGE_IMAGES = 32


class Described(NamedTuple):
    """Images of one split, on the CPU.

    Attributes:
        features: By name, ``(N, D)`` each.
        labels: ``(N,)``.
    """

    features: dict[str, Tensor]
    labels: Tensor


@torch.no_grad()
def describe_all(
    fabric: Fabric,
    method: Method,
    loaders: Sequence[Batches],
    on_batch: Callable[[], None] = lambda: None,
) -> list[Described]:
    """Every feature of :meth:`Method.describe`, and the labels, for all images of each loader."""
    method.eval()
    with full_precision():
        return [_describe(fabric, method, loader, on_batch) for loader in loaders]


def _describe(fabric: Fabric, method: Method, loader: Batches, on_batch: Callable[[], None]) -> Described:
    parts: list[dict[str, Tensor]] = []
    labels: list[Tensor] = []
    for images, targets, _ in loader:
        parts.append({k: v.cpu() for k, v in method.describe(images.to(fabric.device)).items()})
        labels.append(targets)
        on_batch()
    return Described(
        {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, torch.cat(labels)
    )


@torch.no_grad()
def refine(fabric: Fabric, method: Method, described: Sequence[Described]) -> dict[str, Refined]:
    """What :meth:`Method.refine_described` makes of all test images together, on the CPU; usually nothing."""
    method.eval()
    with full_precision():
        refined = method.refine_described(
            *({name: x.to(fabric.device) for name, x in split.features.items()} for split in described)
        )
    return {
        name: Refined(x.cpu(), None if gallery is None else gallery.cpu())
        for name, (x, gallery) in refined.items()
    }


def score(
    config: Config,
    method: Method,
    described: Sequence[Described],
    refined: Mapping[str, Refined] = MappingProxyType({}),
) -> dict[str, EvaluationResult]:
    """Retrieval and clustering of each feature; the embedding by its geometry, the others by the cosine.

    Args:
        config: The run.
        method: What described the images.
        described: The test images, or queries and gallery.
        refined: Scored beside them.
    """
    queries, gallery = described[0], described[1] if len(described) > 1 else None
    plain = {
        name: Refined(x, None if gallery is None else gallery.features[name])
        for name, x in queries.features.items()
    }
    results = {}
    for name, (embeddings, compared) in {**plain, **refined}.items():
        geometry = method.geometry if name == "embedding" else Sphere()
        results[name] = evaluate(
            embeddings,
            queries.labels,
            gallery=compared,
            gallery_labels=None if gallery is None else gallery.labels,
            ks=config.evaluation.recall_at,
            similarity=None if isinstance(geometry, Sphere) else geometry.similarity,
            seed=config.seed,
            clustering=config.evaluation.clustering,
        )
    return results


def recall_at_1(config: Config, method: Method, described: Sequence[Described]) -> float:
    """That of the embeddings, and nothing else."""
    embeddings = [Described({"embedding": split.features["embedding"]}, split.labels) for split in described]
    shorter = replace(config, evaluation=replace(config.evaluation, recall_at=[1], clustering=False))
    return score(shorter, method, embeddings)["embedding"].as_dict()["recall_at_1"]


@torch.no_grad()
def measure_leakage(fabric: Fabric, method: Method, loader: Batches) -> float:
    """How much the batch changes embeddings; see :func:`~pyg_bgformer.evaluation.batch_dependence`."""
    samples = loader.dataset
    count = min(LEAKAGE_IMAGES, len(samples))  # type: ignore[arg-type]
    # Evenly spread, so that several classes are among them.
    positions = [i * len(samples) // count for i in range(count)]  # type: ignore[arg-type]
    images = torch.stack([samples[i][0] for i in positions]).to(fabric.device)
    method.eval()
    with full_precision():
        return batch_dependence(method.embed, images)


def leaks(leakage: float) -> bool:
    """Whether a measured leakage is more than rounding; a value that is not a number is."""
    return not leakage <= LEAKAGE_LIMIT


def full_precision() -> AbstractContextManager[None]:
    """Convolutions in float32 also on GPUs that would round their inputs: results depend on the kernel then."""
    return torch.backends.cudnn.flags(allow_tf32=False)
