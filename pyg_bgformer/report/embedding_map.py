"""A map of embeddings: similar embeddings become neighbouring points in the plane."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor

from pyg_bgformer.errors import InputError

MapMethod = Literal["tsne", "umap", "none"]

LEAST_OF_A_CLASS = 5
"""Smallest number of items of each class on a map. It limits the number of classes."""

ITERATIONS = 500
"""Number of iterations of t-SNE. The first 250 are its early exaggeration."""


def choose_points(labels: np.ndarray, limit: int, seed: int = 0) -> np.ndarray:
    """Returns the items that a map shows, in ascending order: all items, or equally many of each class.

    If there are more than ``limit / 5`` classes, the map shows some of them.

    Args:
        labels: ``(N,)``, classes.
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
        embeddings: ``(N, D)``, N at least 4.
        method: ``"tsne"`` is scikit-learn's t-SNE, started from the principal components. ``"umap"`` needs
            ``pip install umap-learn``.
        similarity: Similarity of embeddings, larger for more similar ones. ``None`` takes the Euclidean distance,
            which orders unit vectors as the cosine does.
        seed: Equal seeds give equal maps.

    Raises:
        InputError: If there are fewer than 4 embeddings, or umap-learn is not installed.
    """
    x = embeddings.detach().float().cpu()
    if len(x) < 4:
        raise InputError(f"a map of embeddings needs at least 4 embeddings, found {len(x)}")
    values, metric = x.numpy(), "euclidean"
    if similarity is not None:
        distance = -similarity(x, x)
        values = (distance - distance.min()).fill_diagonal_(0).clamp(min=0).numpy()
        metric = "precomputed"
    if method == "umap":
        points = _umap(values, metric, seed)
    else:
        with np.errstate(invalid="ignore"):  # PCA divides by the variance, which is 0 for equal embeddings
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
        raise InputError("a map by umap needs umap-learn: pip install umap-learn, or use tsne") from error
    neighbors = min(15, len(values) - 1)
    found = UMAP(n_neighbors=neighbors, metric=metric, random_state=seed).fit_transform(values)
    return np.asarray(found)
