"""Scores of a method's embeddings, and their batch dependence."""

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
"""Number of test images that batch dependence is measured on."""

REFINED_AT_A_TIME = 128
"""Number of batches of test images that are refined at a time."""


class Extracted(NamedTuple):
    """Embeddings and other features of the images of one split, on the CPU.

    Attributes:
        features: Features ``(N, D)`` by name. D depends on the feature.
        labels: ``(N,)`` int64, classes.
    """

    features: dict[str, Tensor]
    labels: Tensor


def extract_tested(parts: Parts, title: str, display: Display) -> list[Extracted]:
    """Returns the features of all test images, computed by the method in its current state.

    Args:
        parts: The run.
        title: Title of the progress bar.
        display: Shows the progress.

    Raises:
        RunError: If features are NaN or infinite.
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
    """Returns the features of :meth:`Method.extract` and the labels for all images of each loader.

    Args:
        fabric: The device.
        method: The method, on that device. It stays in evaluation mode.
        loaders: A loader for each split.
        on_batch: Called after each batch.
        processes: The processes of the run. They share the images, and each gets the features of all images.

    Raises:
        RunError: If features are NaN or infinite.
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
    if not rows:  # fewer batches than processes: this process has no rows, but needs the dtypes and sizes
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
                f"the {name} features of {broken} of {len(x)} test images are NaN or infinite: training has "
                "diverged; a smaller train.lr may help"
            )
    return Extracted(whole, processes.gather(torch.cat(labels)))


def score_tested(
    parts: Parts, extracted: Sequence[Extracted], *, refined: bool = True
) -> dict[str, EvaluationResult]:
    """Returns the scores of the test images by name of the feature.

    Args:
        parts: The run.
        extracted: Features of the test images, or of queries and gallery.
        refined: Also score embeddings that test images refine among each other, if the method supports this.
    """
    further = refine(parts.method, extracted, parts.fabric.device) if refined else None
    return score(extracted, parts.method.geometry, parts.config.evaluation, parts.config.seed, further)


@torch.no_grad()
def refine(method: Method, extracted: Sequence[Extracted], device: torch.device) -> Tensor | None:
    """Returns the embeddings of the test images after they have refined each other.

    If there is a gallery, only the queries are refined, each in a batch with its neighbours in the gallery.

    Args:
        method: The method. Its ``test_refinement`` says whether and how test images are refined.
        extracted: Features of the test images, or of queries and gallery.
        device: The method's device.

    Returns:
        ``(N, D)`` on the CPU, or :obj:`None` if the method does not refine test images.
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
    """Returns the retrieval and clustering scores by name of the feature.

    Args:
        extracted: Features of the test images, or of queries and gallery.
        geometry: Its similarity compares the embeddings. Other features are compared by cosine.
        evaluation: The recipe's section.
        seed: Seed of k-means.
        refined: ``(N, D)``, refined embeddings, scored under the name ``refined``. If there is a gallery, they are
            compared with its plain embeddings.
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
    """Returns the Recall@1 of the embeddings of the test images, from 0 to 1.

    Args:
        parts: The run.

    Raises:
        RunError: If features are NaN or infinite.
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
    """Returns the :func:`~pyg_bgformer.evaluation.batch_dependence` of a method's embeddings.

    Args:
        fabric: The device.
        method: The method, on that device. It stays in evaluation mode.
        loader: A loader of test images.
    """
    samples = loader.dataset
    samples = getattr(samples, "images", samples)
    count = min(BATCH_DEPENDENCE_IMAGES, len(samples))  # type: ignore[arg-type]
    # The images are evenly spread, so that there are several classes.
    positions = [i * len(samples) // count for i in range(count)]  # type: ignore[arg-type]
    images = torch.stack([samples[i][0] for i in positions]).to(fabric.device)
    method.eval()
    with full_precision():
        return batch_dependence(method.embed, images)


def full_precision() -> AbstractContextManager[None]:
    """Keeps convolutions in float32. With TF32 on a GPU, scores would depend on the convolution's algorithm."""
    return torch.backends.cudnn.flags(allow_tf32=False)
