"""All metrics of one set of embeddings in one call."""

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
    """Returns retrieval scores by :func:`retrieval` and, unless switched off, clustering by :func:`clustering`.

    In the query/gallery form queries and gallery are clustered together: they are the test set. With a
    ``similarity`` of your own the rows are clustered as they are, not L2-normalised.

    Args:
        embeddings: ``(N, D)``, the queries if there is a gallery.
        labels: ``(N,)`` whole numbers.
        gallery: ``(n, D)``; ``None`` compares the embeddings with each other.
        gallery_labels: ``(n,)``, given exactly when ``gallery`` is.
        ks: The K of Recall@K.
        similarity: As in :func:`retrieval`.
        seed: Of k-means.
        clustering: Whether to cluster at all.
        neighbours: How many retrieved items to keep for each query, by :func:`top_k`. A query does not retrieve
            itself. Among equal similarities the lower index is first, unlike in the scores, where a negative is
            first.

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
