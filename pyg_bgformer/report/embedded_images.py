"""The test images of a run and their embeddings: what galleries and maps are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pyg_bgformer.evaluation import RetrievalResult, retrieval
from pyg_bgformer.evaluation.search import SimilarityFunction, top_k


class Retrieved(NamedTuple):
    """What queries retrieve.

    Attributes:
        scores: Of all queries.
        ids: ``(N, k)`` the nearest items of each query, the nearest first.
        similarities: ``(N, k)``.
    """

    scores: RetrievalResult
    ids: np.ndarray
    similarities: np.ndarray


@dataclass(frozen=True)
class EmbeddedImages:
    """Test images with labels and embeddings; queries and items are the same if there is no gallery.

    Args:
        embeddings: ``(N, D)`` of the queries.
        labels: Classes ``(N,)`` of the queries.
        rows: ``(N,)`` rows of the queries, for ``picture``.
        class_names: By label.
        picture: The image of a row.
        items: ``(M, D)``, the gallery's embeddings, if there is a gallery.
        gallery_labels: ``(M,)``, given with ``items``.
        gallery_rows: ``(M,)``, given with ``items``.
        similarity: How alike embeddings are; ``None`` for the cosine.
    """

    embeddings: Tensor
    labels: np.ndarray
    rows: np.ndarray
    class_names: dict[int, str]
    picture: Callable[[int], Image.Image]
    items: Tensor | None = None
    gallery_labels: np.ndarray | None = None
    gallery_rows: np.ndarray | None = None
    similarity: SimilarityFunction | None = None

    @property
    def item_labels(self) -> np.ndarray:
        """Classes of what is retrieved."""
        return self.labels if self.gallery_labels is None else self.gallery_labels

    def query_picture(self, query: int) -> Image.Image:
        """Returns the image of a query.

        Args:
            query: Its position among the queries.
        """
        return self.picture(int(self.rows[query]))

    def item_picture(self, item: int) -> Image.Image:
        """Returns the image of a retrieved item.

        Args:
            item: Its position among the items.
        """
        rows = self.rows if self.gallery_rows is None else self.gallery_rows
        return self.picture(int(rows[item]))

    def retrieve(self, k: int) -> Retrieved:
        """Returns the scores of all queries, and the k nearest items of each.

        Args:
            k: Number of items.
        """
        scores = retrieval(
            self.embeddings,
            self.labels,
            gallery=self.items,
            gallery_labels=self.gallery_labels,
            similarity=self.similarity,
        )
        itself = torch.arange(len(self.embeddings)) if self.items is None else None
        items = self.embeddings if self.items is None else self.items
        nearest = top_k(self.embeddings, items, k, similarity=self.similarity, exclude=itself)
        return Retrieved(scores, nearest.ids.numpy(), nearest.similarities.numpy())
