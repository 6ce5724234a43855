"""Recall@K, MAP@R and R-precision, computed block by block."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation.inputs import Embeddings, Labels, checked_labels, checked_pair, unit_rows
from pyg_bgformer.evaluation.ranking import BlockScores, score_block
from pyg_bgformer.evaluation.search import SimilarityFunction, similarity_blocks

WORKING_COPIES = 8
"""Entries of memory for each positive of a query: its rank and precision are several 64-bit numbers."""


@dataclass(frozen=True)
class RetrievalResult:
    """Retrieval scores, as fractions from 0 to 1, and the values of every query.

    A query is *defined* if the gallery contains at least one other item of its class (a positive). Means are over
    the defined queries. They are NaN if there is none. Arrays have one entry for each query in the given order,
    NaN where the query is undefined.

    Attributes:
        recall: Recall@K by K: share of the queries whose most similar positive has a rank of at most K.
        map_at_r: Mean of ``average_precision`` (Musgrave et al., "A Metric Learning Reality Check", 2020).
        r_precision: Mean of ``precision_at_r``.
        queries: Number of queries, undefined ones included.
        undefined: Number of queries without a positive. No mean includes them.
        gallery: Number of items in the gallery. Without a separate gallery, a query is one of them.
        classes: Number of classes in queries and gallery together.
        defined: ``(queries,)`` bool.
        first_rank: ``(queries,)`` float64, rank of the most similar positive, from 1.
        average_precision: ``(queries,)`` float64, average precision at R, from 0 to 1.
        precision_at_r: ``(queries,)`` float64, share of the R positives with a rank of at most R, from 0 to 1.
    """

    recall: dict[int, float]
    map_at_r: float
    r_precision: float
    queries: int
    undefined: int
    gallery: int
    classes: int
    defined: np.ndarray
    first_rank: np.ndarray
    average_precision: np.ndarray
    precision_at_r: np.ndarray

    def as_dict(self) -> dict[str, float | int]:
        """Returns scores and counts as plain numbers by name (``recall_at_1``, ``map_at_r``, ...)."""
        recalls = {f"recall_at_{k}": value for k, value in self.recall.items()}
        names = ("map_at_r", "r_precision", "queries", "undefined", "gallery", "classes")
        return recalls | {name: getattr(self, name) for name in names}


def retrieval(
    embeddings: Embeddings,
    labels: Labels,
    *,
    gallery: Embeddings | None = None,
    gallery_labels: Labels | None = None,
    ks: Sequence[int] = (1, 2, 4, 8),
    similarity: SimilarityFunction | None = None,
    block: int | None = None,
) -> RetrievalResult:
    r"""Returns how well each query finds the gallery items of its class.

    Without ``gallery`` every item is a query and is compared with all others. The query is excluded by its index,
    so exact duplicates of it stay. With ``gallery`` nothing is excluded.

    **Ties** count against the embedding: a negative that is exactly as similar as a positive ranks before it. The
    order of the rows does not matter. If all embeddings are equal, Recall@1 is 0, not 1.
    With :math:`R` the number of positives and :math:`\mathrm{rank}_i` the rank of the i-th most similar one,

    .. math::
        \mathrm{AP@R} = \frac{1}{R} \sum_{i:\, \mathrm{rank}_i \le R} \frac{i}{\mathrm{rank}_i}, \qquad
        \mathrm{RP} = \frac{\#\{i : \mathrm{rank}_i \le R\}}{R}.

    The function needs float32 copies of the embeddings and a few blocks of similarities in memory.

    Args:
        embeddings: ``(N, D)``, floating point of any precision. Scores are computed in float32 on their device.
        labels: ``(N,)`` whole numbers.
        gallery: ``(n, D)``, floating point. ``None`` compares the embeddings with each other.
        gallery_labels: ``(n,)`` whole numbers, needed with ``gallery``.
        ks: The K of Recall@K, from 1. A K may be larger than the gallery.
        similarity: Called with float32 queries ``(b, D)``, some perhaps twice, and the whole gallery.
            ``None`` is the dot product of L2-normalised rows.
        block: Number of queries at a time. ``None`` fills
            :data:`~pyg_bgformer.evaluation.search.BLOCK_ENTRIES` similarities.

    Raises:
        InputError: If shapes do not fit, an embedding or a similarity is NaN or infinite, a K or ``block`` is
            below 1, or only one of ``gallery`` and ``gallery_labels`` is given.
    """
    if any(int(k) != k or k < 1 for k in ks):
        raise InputError(f"ks: found {list(ks)}, expected whole numbers from 1, the K of Recall@K")
    if (gallery is None) != (gallery_labels is None):
        lacking = "gallery" if gallery is None else "gallery_labels"
        raise InputError(f"{lacking} is missing: give both gallery and gallery_labels, or neither")
    queries, items = checked_pair(embeddings, embeddings if gallery is None else gallery)
    classes = checked_labels(labels, len(queries)).to(queries.device)
    item_classes = classes
    if gallery_labels is not None:
        item_classes = checked_labels(gallery_labels, len(items), "gallery_labels").to(items.device)
    if similarity is None:
        items = unit_rows(items)
        queries = items if gallery is None else unit_rows(queries)
    numbers, index = torch.unique(torch.cat([classes, item_classes]), return_inverse=True)
    with torch.no_grad(), torch.autocast(items.device.type, enabled=False):
        scores = _scores(
            queries, index[: len(classes)], items, index[len(classes) :], gallery is None, similarity, block
        )
    first, average, precision = (score.cpu().numpy() for score in scores)
    defined = ~np.isnan(first)
    return RetrievalResult(
        recall={k: _mean(first[defined] <= k) for k in sorted({int(k) for k in ks})},
        map_at_r=_mean(average[defined]),
        r_precision=_mean(precision[defined]),
        queries=len(queries),
        undefined=int((~defined).sum()),
        gallery=len(items),
        classes=len(numbers),
        defined=defined,
        first_rank=first,
        average_precision=average,
        precision_at_r=precision,
    )


def _scores(
    queries: Tensor,
    classes: Tensor,
    items: Tensor,
    item_classes: Tensor,
    among_themselves: bool,
    similarity: SimilarityFunction | None,
    block: int | None,
) -> BlockScores:
    """Returns the scores of all queries, ``(N,)`` each, in the given order.

    The gallery is sorted by class, and the classes by size. The queries of a block then have similar numbers of
    positives, which keeps the padding small.
    """
    sizes = torch.bincount(item_classes, minlength=int(classes.max()) + 1)
    by_size = sizes.argsort(stable=True)
    place, sizes = by_size.argsort(), sizes[by_size]
    starts = sizes.cumsum(0) - sizes
    order, columns = place[classes].argsort(stable=True), place[item_classes].argsort(stable=True)
    own_class = place[classes[order]]
    start, size = starts[own_class], sizes[own_class]
    items = items[columns]
    queries = items if among_themselves else queries[order]
    blocks = []
    spare = WORKING_COPIES * int(size.max())
    for part, similarities in similarity_blocks(queries, items, similarity, rows=block, spare=spare):
        own = torch.arange(part.start, part.stop, device=items.device) if among_themselves else None
        blocks.append(score_block(similarities, start[part], size[part], own))
    given_order = order.argsort()
    return BlockScores(*(torch.cat(column)[given_order] for column in zip(*blocks, strict=True)))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
