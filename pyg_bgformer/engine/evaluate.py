"""The scores of a method's embeddings, and whether the scores can be trusted."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import count
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor

from pyg_bgformer.config.schema import EvaluationConfig
from pyg_bgformer.engine.loaders import Batches
from pyg_bgformer.engine.processes import ALONE, Processes
from pyg_bgformer.engine.progress import Display
from pyg_bgformer.engine.setup import Parts
from pyg_bgformer.errors import RunError
from pyg_bgformer.evaluation import EvaluationResult, batch_dependence, evaluate, k_reciprocal_batches
from pyg_bgformer.geometry import Geometry, Sphere
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


def extract_tested(parts: Parts, title: str, display: Display) -> list[Extracted]:
    """Returns the features of all test images by the method as it is.

    Args:
        parts: The run.
        title: What the progress bar says.
        display: Shows the progress.

    Raises:
        RunError: Features are not finite.
    """
    done = count(1)
    with display.bar(title, sum(map(len, parts.test_loaders))) as update:
        return extract_all(
            parts.fabric, parts.method, parts.test_loaders, lambda: update(next(done), ""), parts.processes
        )


@torch.no_grad()
def extract_all(
    fabric: Fabric,
    method: Method,
    loaders: Sequence[Batches],
    on_batch: Callable[[], None] = lambda: None,
    processes: Processes = ALONE,
) -> list[Extracted]:
    """Returns the result of :meth:`Method.extract`, and the labels, for all images of each loader.

    Args:
        fabric: The device.
        method: On that device.
        loaders: One for each split.
        on_batch: Told after each batch.
        processes: Their loaders share the images. Each process gets the features of all.

    Raises:
        RunError: Features are not finite.
    """
    method.eval()
    with full_precision():
        return [_extract(fabric, method, loader, on_batch, processes) for loader in loaders]


def _extract(
    fabric: Fabric, method: Method, loader: Batches, on_batch: Callable[[], None], processes: Processes
) -> Extracted:
    found: list[dict[str, Tensor]] = []
    labels: list[Tensor] = []
    rows: list[Tensor] = []
    for images, targets, numbers in loader:
        rows.append(numbers)
        found.append({name: x.cpu() for name, x in method.extract(images.to(fabric.device)).items()})
        labels.append(targets)
        on_batch()
    if not rows:  # fewer batches than processes: this one gives no rows, but the others' types and sizes
        image, target, number = loader.dataset[0]
        one = method.extract(image[None].to(fabric.device))
        found = [{name: values[:0].cpu() for name, values in one.items()}]
        labels, rows = [torch.tensor([target])[:0]], [torch.tensor([number])[:0]]
    whole = {name: processes.gather(torch.cat([part[name] for part in found])) for name in found[0]}
    all_rows = processes.gather(torch.cat(rows))
    if not torch.equal(all_rows, torch.as_tensor(loader.dataset.rows)):  # type: ignore[attr-defined]
        raise AssertionError("every test image must be extracted exactly once, in the order of the dataset")
    for name, x in whole.items():
        if broken := int((~x.isfinite()).any(dim=1).sum()):
            raise RunError(
                f"the {name} features of {broken} of {len(x)} test images are not finite: training has diverged; "
                "a smaller train.lr may help"
            )
    return Extracted(whole, processes.gather(torch.cat(labels)))


def score_tested(
    parts: Parts, extracted: Sequence[Extracted], *, refined: bool = True
) -> dict[str, EvaluationResult]:
    """Returns the scores of the test images' features.

    Args:
        parts: The run.
        extracted: The test images, or queries and gallery.
        refined: Also score features that the test images refine in each other, where the method does that.
    """
    further = refine(parts.method, extracted, parts.fabric.device) if refined else None
    return score(extracted, parts.method.geometry, parts.config.evaluation, parts.config.seed, further)


@torch.no_grad()
def refine(method: Method, extracted: Sequence[Extracted], device: torch.device) -> Tensor | None:
    """Returns the embeddings of the test images as they refine each other, on the CPU; usually nothing.

    Where there is a gallery, the queries alone are refined, each in a batch with neighbours from the gallery.

    Args:
        method: Says by its ``test_refinement`` whether and how test images are refined.
        extracted: The test images, or queries and gallery.
        device: Where the method is.
    """
    policy = method.test_refinement
    if policy is None:
        return None
    method.eval()
    embeddings, *items = (split.features["embedding"].to(device) for split in extracted)
    gallery = items[0] if items else None
    with full_precision():
        batches = k_reciprocal_batches(embeddings, policy.k, policy.batch, gallery=gallery)
        parts = []
        for rows in torch.arange(len(embeddings), device=device).split(REFINED_AT_A_TIME):
            if gallery is None:
                members = embeddings[batches[rows]]
            else:
                members = torch.cat([embeddings[rows, None], gallery[batches[rows]]], dim=1)
            parts.append(method.refine_batches(members).cpu())
    return torch.cat(parts)


def score(
    extracted: Sequence[Extracted],
    geometry: Geometry,
    evaluation: EvaluationConfig,
    seed: int,
    refined: Tensor | None = None,
) -> dict[str, EvaluationResult]:
    """Returns the retrieval and clustering scores of each feature.

    Args:
        extracted: The test images, or queries and gallery.
        geometry: Its similarity compares the embeddings. Other features are compared by the cosine.
        evaluation: The recipe's section.
        seed: Decides the start of k-means.
        refined: Scored in addition to the others as ``refined``; compared with the gallery's plain embeddings
            if there is a gallery.
    """
    queries, gallery = extracted[0], extracted[1] if len(extracted) > 1 else None
    compared = {
        name: (x, None if gallery is None else gallery.features[name]) for name, x in queries.features.items()
    }
    if refined is not None:
        compared["refined"] = (refined, compared["embedding"][1])
    results = {}
    for name, (x, items) in compared.items():
        space = geometry if name == "embedding" else Sphere()
        results[name] = evaluate(
            x,
            queries.labels,
            gallery=items,
            gallery_labels=None if gallery is None else gallery.labels,
            ks=evaluation.recall_at,
            similarity=None if isinstance(space, Sphere) else space.similarity,
            seed=seed,
            clustering=evaluation.clustering,
        )
    return results


def recall_at_1(parts: Parts) -> float:
    """Returns the Recall@1 of the embeddings, and computes nothing else.

    Args:
        parts: The run.
    """
    extracted = extract_all(parts.fabric, parts.method, parts.test_loaders, processes=parts.processes)
    if not parts.processes.is_first:
        return parts.processes.share(0.0)
    embeddings = [Extracted({"embedding": split.features["embedding"]}, split.labels) for split in extracted]
    only = EvaluationConfig(recall_at=(1,), clustering=False)
    scores = score(embeddings, parts.method.geometry, only, parts.config.seed)
    return parts.processes.share(scores["embedding"].recall[1])


@torch.no_grad()
def measure_batch_dependence(fabric: Fabric, method: Method, loader: Batches) -> float:
    """Returns how much the batch changes embeddings; see :func:`~pyg_bgformer.evaluation.batch_dependence`.

    Args:
        fabric: The device.
        method: On that device.
        loader: Loads test images.
    """
    samples = loader.dataset
    samples = getattr(samples, "images", samples)
    count = min(BATCH_DEPENDENCE_IMAGES, len(samples))  # type: ignore[arg-type]
    # Evenly spread, so that several classes are among them.
    positions = [i * len(samples) // count for i in range(count)]  # type: ignore[arg-type]
    images = torch.stack([samples[i][0] for i in positions]).to(fabric.device)
    method.eval()
    with full_precision():
        return batch_dependence(method.embed, images)


def full_precision() -> AbstractContextManager[None]:
    """Keeps convolutions in float32 on GPUs that would round their inputs: scores would depend on the kernel."""
    return torch.backends.cudnn.flags(allow_tf32=False)
