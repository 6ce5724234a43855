"""What a method's embeddings are worth, and whether they may be believed."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from lightning_fabric import Fabric
from torch import Tensor

from pyg_bgformer.config import Config
from pyg_bgformer.engine.build import Batches
from pyg_bgformer.evaluation import EvaluationResult, batch_leakage, evaluate
from pyg_bgformer.geometry import Sphere
from pyg_bgformer.methods import Method

LEAKAGE_LIMIT = 1e-4
"""Largest change of an embedding, relative to its norm, that rounding may cause when its batch changes."""

LEAKAGE_IMAGES = 32


@torch.no_grad()
def describe_all(
    fabric: Fabric, method: Method, loader: Batches, on_batch: Callable[[int], None] = lambda done: None
) -> tuple[dict[str, Tensor], Tensor]:
    """Every feature of :meth:`Method.describe` for all images of a loader, and their labels, on the CPU."""
    method.eval()
    parts: list[dict[str, Tensor]] = []
    labels: list[Tensor] = []
    with full_precision():
        for done, (images, targets, _) in enumerate(loader, start=1):
            parts.append({k: v.cpu() for k, v in method.describe(images.to(fabric.device)).items()})
            labels.append(targets)
            on_batch(done)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, torch.cat(labels)


@torch.no_grad()
def refine(fabric: Fabric, method: Method, described: dict[str, Tensor]) -> dict[str, Tensor]:
    """What :meth:`Method.refine_described` makes of all test images together, on the CPU; usually nothing."""
    method.eval()
    with full_precision():
        refined = method.refine_described({name: x.to(fabric.device) for name, x in described.items()})
    return {name: x.cpu() for name, x in refined.items()}


def score(
    config: Config, method: Method, described: dict[str, Tensor], labels: Tensor
) -> dict[str, EvaluationResult]:
    """Retrieval and clustering of each feature; the embedding by its geometry, the others by the cosine."""
    results = {}
    for name, embeddings in described.items():
        geometry = method.geometry if name == "embedding" else Sphere()
        results[name] = evaluate(
            embeddings,
            labels,
            ks=config.evaluation.recall_at,
            similarity=None if isinstance(geometry, Sphere) else geometry.similarity,
            seed=config.seed,
            clustering=config.evaluation.clustering,
        )
    return results


@torch.no_grad()
def measure_leakage(fabric: Fabric, method: Method, loader: Batches) -> float:
    """How much the batch changes embeddings; see :func:`~pyg_bgformer.evaluation.batch_leakage`."""
    samples = loader.dataset
    count = min(LEAKAGE_IMAGES, len(samples))  # type: ignore[arg-type]
    # Evenly spread, so that several classes are among them.
    positions = [i * len(samples) // count for i in range(count)]  # type: ignore[arg-type]
    images = torch.stack([samples[i][0] for i in positions]).to(fabric.device)
    method.eval()
    with full_precision():
        return batch_leakage(method.embed, images)


def leaks(leakage: float) -> bool:
    """Whether a measured leakage is more than rounding; a value that is not a number is."""
    return not leakage <= LEAKAGE_LIMIT


def full_precision() -> AbstractContextManager[None]:
    """Convolutions in float32 also on GPUs that would round their inputs: results depend on the kernel then."""
    return torch.backends.cudnn.flags(allow_tf32=False)
