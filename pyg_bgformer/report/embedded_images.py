"""The test images of a run with their embeddings, for galleries and maps."""

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
    """The neighbours and scores of queries.

    Attributes:
        scores: Scores of all queries.
        ids: ``(N, k)`` int64, positions of the neighbours of each query, most similar first.
        similarities: ``(N, k)`` float32.
    """

    scores: RetrievalResult
    ids: np.ndarray
    similarities: np.ndarray


@dataclass(frozen=True)
class EmbeddedImages:
    """Test images with labels and embeddings. Without a gallery, the queries are also the items.

    Args:
        embeddings: ``(N, D)``, embeddings of the queries.
        labels: ``(N,)``, classes of the queries.
        rows: ``(N,)``, rows of the queries in the dataset.
        class_names: Names of the classes by label.
        picture: Returns the image of a row.
        items: ``(M, D)``, embeddings of the gallery, if there is one.
        gallery_labels: ``(M,)``, classes of the gallery, needed with ``items``.
        gallery_rows: ``(M,)``, rows of the gallery, needed with ``items``.
        similarity: Similarity of embeddings. ``None`` is the cosine.
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
        """Classes of the items."""
        return self.labels if self.gallery_labels is None else self.gallery_labels

    def query_picture(self, query: int) -> Image.Image:
        """Returns the image of a query.

        Args:
            query: Position of the query among the queries.
        """
        return self.picture(int(self.rows[query]))

    def item_picture(self, item: int) -> Image.Image:
        """Returns the image of an item.

        Args:
            item: Position of the item among the items.
        """
        rows = self.rows if self.gallery_rows is None else self.gallery_rows
        return self.picture(int(rows[item]))

    def retrieve(self, k: int) -> Retrieved:
        """Returns the scores of all queries, and the k most similar items of each query.

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
