"""All metrics of a set of embeddings in one call."""

from collections.abc import Sequence

import torch

from pyg_bgformer.evaluation.clustering import clustering as cluster
from pyg_bgformer.evaluation.inputs import Embeddings, Labels, checked_labels, checked_pair
from pyg_bgformer.evaluation.result import EvaluationResult
from pyg_bgformer.evaluation.retrieval import retrieval
from pyg_bgformer.evaluation.search import SimilarityFunction, top_k


def evaluate(
    embeddings: Embeddings,
    labels: Labels,
    *,
    gallery: Embeddings | None = None,
    gallery_labels: Labels | None = None,
    ks: Sequence[int] = (1, 2, 4, 8),
    similarity: SimilarityFunction | None = None,
    seed: int = 0,
    clustering: bool = True,
    neighbours: int = 0,
) -> EvaluationResult:
    """Returns the scores of :func:`retrieval` and :func:`clustering` for a set of embeddings.

    Queries and gallery are clustered together, because together they are the test set. With your own
    ``similarity``, the rows are clustered without L2-normalisation.

    Args:
        embeddings: ``(N, D)``, floating point: all images, or the queries if there is a gallery.
        labels: ``(N,)`` whole numbers.
        gallery: ``(n, D)``, floating point. ``None`` compares the embeddings with each other.
        gallery_labels: ``(n,)`` whole numbers, needed with ``gallery``.
        ks: The K of Recall@K, from 1.
        similarity: See :func:`retrieval`.
        seed: Seed of k-means.
        clustering: Whether to run k-means.
        neighbours: Number of retrieved items to keep for each query; 0 keeps none. They come from :func:`top_k`. A
            query does not retrieve itself. Equally similar items are ordered by index here. In the scores,
            negatives come first.

    Raises:
        InputError: See :func:`retrieval`.
    """
    scores = retrieval(
        embeddings, labels, gallery=gallery, gallery_labels=gallery_labels, ks=ks, similarity=similarity
    )
    rows, items = checked_pair(embeddings, embeddings if gallery is None else gallery)
    found = None
    if neighbours:
        itself = torch.arange(len(rows)) if gallery is None else None
        found = top_k(rows, items, neighbours, similarity=similarity, exclude=itself)
    if not clustering:
        return EvaluationResult(scores, None, found)
    classes = checked_labels(labels, len(rows))
    if gallery_labels is not None:
        rows = torch.cat([rows, items])
        classes = torch.cat([classes, checked_labels(gallery_labels, len(items)).to(classes.device)])
    return EvaluationResult(scores, cluster(rows, classes, seed=seed, normalize=similarity is None), found)
