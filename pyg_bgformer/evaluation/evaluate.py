"""All metrics of one set of embeddings in one call."""

from collections.abc import Sequence

import torch

from pyg_bgformer.evaluation.clustering import clustering as cluster
from pyg_bgformer.evaluation.inputs import Embeddings, Labels
from pyg_bgformer.evaluation.result import EvaluationResult
from pyg_bgformer.evaluation.retrieval import Similarity, retrieval


def evaluate(
    embeddings: Embeddings,
    labels: Labels,
    *,
    gallery: Embeddings | None = None,
    gallery_labels: Labels | None = None,
    ks: Sequence[int] = (1, 2, 4, 8),
    similarity: Similarity | None = None,
    seed: int = 0,
    clustering: bool = True,
) -> EvaluationResult:
    """Retrieval by :func:`retrieval` and, unless switched off, clustering by :func:`clustering`.

    In the query/gallery form queries and gallery are clustered together: they are the test set. With a
    ``similarity`` of your own the rows are clustered as they are, not L2-normalised.

    Args:
        embeddings: ``(N, D)``, the queries where there is a gallery.
        labels: ``(N,)`` whole numbers.
        gallery: ``(n, D)``; ``None`` compares the embeddings with each other.
        gallery_labels: ``(n,)``, given exactly when ``gallery`` is.
        ks: the K of Recall@K.
        similarity: as in :func:`retrieval`.
        seed: of k-means.
        clustering: whether to cluster at all.

    Raises:
        InputError: see :func:`retrieval`.
    """
    scores = retrieval(
        embeddings, labels, gallery=gallery, gallery_labels=gallery_labels, ks=ks, similarity=similarity
    )
    if not clustering:
        return EvaluationResult(scores, None)
    rows, classes = torch.as_tensor(embeddings), torch.as_tensor(labels)
    if gallery is not None and gallery_labels is not None:
        rows = torch.cat([rows, torch.as_tensor(gallery).to(rows)])
        classes = torch.cat([classes, torch.as_tensor(gallery_labels).to(classes)])
    return EvaluationResult(scores, cluster(rows, classes, seed=seed, normalize=similarity is None))
