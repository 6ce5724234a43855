"""What a method's embeddings are worth, and whether they may be believed."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor

from pyg_bgformer.config.schema import Config
from pyg_bgformer.engine.setup import Batches
from pyg_bgformer.evaluation import EvaluationResult, batch_dependence, evaluate, k_reciprocal_batches
from pyg_bgformer.geometry import Sphere
from pyg_bgformer.methods import Method

BATCH_DEPENDENCE_IMAGES = 32

REFINED_AT_A_TIME = 128
"""Batches of test images that are refined together."""


class Extracted(NamedTuple):
    """Embeddings and other features of the images of one split, on the CPU.

    Attributes:
        features: By name, ``(N, D)`` each.
        labels: ``(N,)``.
    """

    features: dict[str, Tensor]
    labels: Tensor


@torch.no_grad()
def extract_all(
    fabric: Fabric,
    method: Method,
    loaders: Sequence[Batches],
    on_batch: Callable[[], None] = lambda: None,
) -> list[Extracted]:
    """Returns the result of :meth:`Method.extract`, and the labels, for all images of each loader."""
    method.eval()
    with full_precision():
        return [_extract(fabric, method, loader, on_batch) for loader in loaders]


def _extract(fabric: Fabric, method: Method, loader: Batches, on_batch: Callable[[], None]) -> Extracted:
    parts: list[dict[str, Tensor]] = []
    labels: list[Tensor] = []
    for images, targets, _ in loader:
        parts.append({k: v.cpu() for k, v in method.extract(images.to(fabric.device)).items()})
        labels.append(targets)
        on_batch()
    return Extracted(
        {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, torch.cat(labels)
    )


@torch.no_grad()
def refine(fabric: Fabric, method: Method, extracted: Sequence[Extracted]) -> Tensor | None:
    """Returns the embeddings of the test images as they refine each other, on the CPU; usually nothing.

    Where there is a gallery, the queries alone are refined, each in a batch with neighbours from the gallery.

    Args:
        fabric: The device.
        method: Says by its ``test_refinement`` whether and how test images are refined.
        extracted: The test images, or queries and gallery.
    """
    policy = method.test_refinement
    if policy is None:
        return None
    method.eval()
    embeddings, *items = (split.features["embedding"].to(fabric.device) for split in extracted)
    with full_precision():
        batches = k_reciprocal_batches(
            embeddings, policy.k, policy.batch, gallery=items[0] if items else None
        )
        parts = []
        for rows in torch.arange(len(embeddings), device=fabric.device).split(REFINED_AT_A_TIME):
            members = items[0][batches[rows]] if items else embeddings[batches[rows]]
            if items:
                members = torch.cat([embeddings[rows, None], members], dim=1)
            parts.append(method.refine_batches(members).cpu())
    return torch.cat(parts)


def score(
    config: Config, method: Method, extracted: Sequence[Extracted], refined: Tensor | None = None
) -> dict[str, EvaluationResult]:
    """Returns the retrieval and clustering scores of each feature.

    The embedding is compared by the similarity of its geometry, the other features by the cosine.

    Args:
        config: The run.
        method: The method that the features were extracted by.
        extracted: The test images, or queries and gallery.
        refined: Scored beside them as ``refined``; compared with the gallery's plain embeddings where there is one.
    """
    queries, gallery = extracted[0], extracted[1] if len(extracted) > 1 else None
    compared = {
        name: (x, None if gallery is None else gallery.features[name]) for name, x in queries.features.items()
    }
    if refined is not None:
        compared["refined"] = (refined, compared["embedding"][1])
    results = {}
    for name, (x, items) in compared.items():
        geometry = method.geometry if name == "embedding" else Sphere()
        results[name] = evaluate(
            x,
            queries.labels,
            gallery=items,
            gallery_labels=None if gallery is None else gallery.labels,
            ks=config.evaluation.recall_at,
            similarity=None if isinstance(geometry, Sphere) else geometry.similarity,
            seed=config.seed,
            clustering=config.evaluation.clustering,
        )
    return results


def recall_at_1(config: Config, method: Method, extracted: Sequence[Extracted]) -> float:
    """That of the embeddings, and nothing else."""
    embeddings = [Extracted({"embedding": split.features["embedding"]}, split.labels) for split in extracted]
    shorter = replace(config, evaluation=replace(config.evaluation, recall_at=(1,), clustering=False))
    return score(shorter, method, embeddings)["embedding"].as_dict()["recall_at_1"]


@torch.no_grad()
def measure_batch_dependence(fabric: Fabric, method: Method, loader: Batches) -> float:
    """How much the batch changes embeddings; see :func:`~pyg_bgformer.evaluation.batch_dependence`."""
    samples = getattr(loader.dataset, "images", loader.dataset)
    count = min(BATCH_DEPENDENCE_IMAGES, len(samples))  # type: ignore[arg-type]
    # Evenly spread, so that several classes are among them.
    positions = [i * len(samples) // count for i in range(count)]  # type: ignore[arg-type]
    images = torch.stack([samples[i][0] for i in positions]).to(fabric.device)
    method.eval()
    with full_precision():
        return batch_dependence(method.embed, images)


def full_precision() -> AbstractContextManager[None]:
    """Convolutions in float32 also on GPUs that would round their inputs: results depend on the kernel then."""
    return torch.backends.cudnn.flags(allow_tf32=False)
