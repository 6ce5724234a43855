"""A map of embeddings: points in the plane whose neighbours are the embeddings' neighbours."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor

from pyg_bgformer.errors import InputError

MapMethod = Literal["tsne", "umap", "none"]

LEAST_OF_A_CLASS = 5
"""A map shows no more classes than it has room for with so many items each."""

ITERATIONS = 500
"""Of t-SNE, of which 250 are its early exaggeration."""


def choose_points(labels: np.ndarray, limit: int, seed: int = 0) -> np.ndarray:
    """Returns the items that a map shows, ascending: all of them, or as many of each class as there is room for.

    Where there are very many classes, some are shown.

    Args:
        labels: Classes ``(N,)``.
        limit: Largest number of items.
        seed: Decides which classes and items are shown.
    """
    if len(labels) <= limit:
        return np.arange(len(labels))
    generator = np.random.default_rng(seed)
    classes = generator.permutation(np.unique(labels))[: max(1, limit // LEAST_OF_A_CLASS)]
    each = limit // len(classes)
    chosen = [generator.permutation(np.flatnonzero(labels == name))[:each] for name in classes]
    return np.sort(np.concatenate(chosen))


def embedding_map(
    embeddings: Tensor,
    *,
    method: Literal["tsne", "umap"] = "tsne",
    similarity: Callable[[Tensor, Tensor], Tensor] | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Returns a point ``(N, 2)`` in the unit square for each embedding.

    Args:
        embeddings: ``(N, D)``, at least four.
        method: ``tsne`` is scikit-learn's t-SNE, started from the principal components. ``umap`` needs
            ``pip install umap-learn``.
        similarity: How alike embeddings are, larger is more alike; by default by their distance, which for unit
            vectors agrees with the cosine.
        seed: Makes the map repeatable.

    Raises:
        InputError: There are too few embeddings, or umap-learn is not installed.
    """
    x = embeddings.detach().float().cpu()
    if len(x) < 4:
        raise InputError(f"a map of embeddings needs at least 4 of them, found {len(x)}")
    values, metric = x.numpy(), "euclidean"
    if similarity is not None:
        distance = -similarity(x, x)
        values = (distance - distance.min()).fill_diagonal_(0).clamp(min=0).numpy()
        metric = "precomputed"
    if method == "umap":
        points = _umap(values, metric, seed)
    else:
        with np.errstate(invalid="ignore"):  # equal embeddings have no variance to be explained
            start = PCA(2, random_state=seed).fit_transform(x.numpy())
        start = (start / max(float(start[:, 0].std()), 1e-12) * 1e-4).astype(np.float32)
        perplexity = min(30.0, (len(x) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init=start, metric=metric, max_iter=ITERATIONS, random_state=seed)
        points = tsne.fit_transform(values)
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray((points - low) / np.maximum(high - low, 1e-12))


def _umap(values: np.ndarray, metric: str, seed: int) -> np.ndarray:
    try:
        from umap import UMAP
    except ImportError as error:
        raise InputError("a map by umap needs umap-learn: pip install umap-learn; or use tsne") from error
    neighbors = min(15, len(values) - 1)
    found = UMAP(n_neighbors=neighbors, metric=metric, random_state=seed).fit_transform(values)
    return np.asarray(found)
