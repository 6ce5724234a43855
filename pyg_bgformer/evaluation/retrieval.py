"""Recall@K, MAP@R and R-precision of embeddings, streamed in blocks of queries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation.inputs import Embeddings, Labels, checked_embeddings, checked_labels, unit_rows
from pyg_bgformer.evaluation.ranking import BlockScores, padded_width, score_block

Similarity = Callable[[Tensor, Tensor], Tensor]
"""``(b, D)`` queries and ``(n, D)`` gallery to ``(b, n)`` finite similarities, larger = more alike."""

BLOCK_ENTRIES = 2**25
"""Similarities held at a time, 128 MB: smaller blocks slow the matrix product, larger gain nothing."""

WORKING_COPIES = 8
"""Room for a query's positives, in entries each: ranks and precisions need several numbers, in 64 bits."""

LEAST_ROWS = 8
"""Queries a matrix product is given at least: for one, BLAS multiplies by a vector, and there equal rows of the
gallery get similarities that differ in the last bit, so that exact ties would be lost."""


@dataclass(frozen=True)
class RetrievalResult:
    """Retrieval scores, as fractions from 0 to 1, and the values of every query.

    A query is *defined* when the gallery holds at least one other item of its class (a positive). Means are
    over the defined queries, NaN when there is none. Per-query arrays have one entry for each query in the
    order given, NaN where undefined.

    Attributes:
        recall: Recall@K by K: share of the queries whose first positive has a rank of at most K.
        map_at_r: mean of ``average_precision`` (Musgrave et al., "A Metric Learning Reality Check", 2020).
        r_precision: mean of ``precision_at_r``.
        queries: number of queries, undefined ones included.
        undefined: number of queries without a positive, left out of every mean.
        gallery: number of items each query is compared with, itself included where it is one of them.
        classes: number of classes among queries and gallery.
        defined: ``(queries,)`` bool.
        first_rank: ``(queries,)`` float64, rank of the most similar positive, from 1.
        average_precision: ``(queries,)`` float64, average precision at R.
        precision_at_r: ``(queries,)`` float64, share of the R positives with a rank of at most R.
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
        """Scores and counts as plain numbers by name (``recall_at_1``, ``map_at_r``, ...)."""
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
    similarity: Similarity | None = None,
    block: int | None = None,
) -> RetrievalResult:
    r"""Scores of ranking the gallery by similarity for each query.

    Without ``gallery`` every item is a query against all others: itself excluded by index, so that exact
    duplicates of it remain. With ``gallery`` nothing is excluded.

    **Ties** are settled against the embedding and independently of the order of the rows: a negative exactly
    as similar as a positive ranks before it. A collapsed embedding, all rows equal, scores 0, not 1.
    With :math:`R` the number of positives and :math:`\mathrm{rank}_i` the rank of the i-th most similar one,

    .. math::
        \mathrm{AP@R} = \frac{1}{R} \sum_{i:\, \mathrm{rank}_i \le R} \frac{i}{\mathrm{rank}_i}, \qquad
        \mathrm{RP} = \frac{\#\{i : \mathrm{rank}_i \le R\}}{R}.

    Besides a float32 copy of the gallery, memory is a few blocks of similarities, whatever N is.

    Args:
        embeddings: ``(N, D)`` of any floating precision, on any device; computed in float32 there.
        labels: ``(N,)`` whole numbers.
        gallery: ``(n, D)``; ``None`` compares the embeddings with each other.
        gallery_labels: ``(n,)``, given exactly when ``gallery`` is.
        ks: the K of Recall@K; a K beyond the gallery's size is fine.
        similarity: called with float32 queries ``(b, D)``, some perhaps twice, and the whole gallery;
            ``None`` is the dot product of L2-normalised rows.
        block: queries at a time; ``None`` takes as many as make :data:`BLOCK_ENTRIES` similarities.

    Raises:
        InputError: shapes that do not fit, NaN or infinity in embeddings or similarities, a K below 1.
    """
    ks = _checked_ks(ks)
    if block is not None and block < 1:
        raise InputError(f"block: found {block}, expected at least 1 query at a time")
    task = _grouped_by_class(*_checked_task(embeddings, labels, gallery, gallery_labels), gallery is None)
    if similarity is None:
        task = task._replace(
            gallery=unit_rows(task.gallery), queries=None if task.queries is None else unit_rows(task.queries)
        )
    with torch.no_grad(), torch.autocast(task.gallery.device.type, enabled=False):
        scores = _score_all(task, similarity, block)
    return _summary(scores, ks, task)


class _Task(NamedTuple):
    """Rows grouped by class, classes by ascending size, so that the queries of a block have similar R."""

    queries: Tensor | None  # (N, D) float32, None where the gallery's rows are the queries
    gallery: Tensor  # (n, D) float32
    start: Tensor  # (N,) first gallery column of the query's class
    size: Tensor  # (N,) gallery columns of the query's class
    order: Tensor  # (N,) position of each grouped query among those given
    classes: int


def _checked_ks(ks: Sequence[int]) -> list[int]:
    if any(int(k) != k or k < 1 for k in ks):
        raise InputError(f"ks: found {list(ks)}, expected whole numbers from 1 for the K of Recall@K")
    return sorted({int(k) for k in ks})


def _checked_task(
    embeddings: Embeddings, labels: Labels, gallery: Embeddings | None, gallery_labels: Labels | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, their labels, gallery, its labels; the gallery is the queries where none is given."""
    queries = checked_embeddings(embeddings)
    query_labels = checked_labels(labels, len(queries)).to(queries.device)
    if (gallery is None) != (gallery_labels is None):
        lacking = "gallery" if gallery is None else "gallery_labels"
        raise InputError(f"{lacking}: not given, expected gallery and gallery_labels together or neither")
    if gallery is None or gallery_labels is None:
        return queries, query_labels, queries, query_labels
    items = checked_embeddings(gallery, "gallery").to(queries.device)
    if items.shape[1] != queries.shape[1]:
        dimensions = f"found {items.shape[1]} dimensions, expected {queries.shape[1]}"
        raise InputError(f"gallery: {dimensions} as the queries have")
    item_labels = checked_labels(gallery_labels, len(items), "gallery_labels").to(items.device)
    return queries, query_labels, items, item_labels


def _grouped_by_class(
    queries: Tensor, labels: Tensor, items: Tensor, item_labels: Tensor, self_retrieval: bool
) -> _Task:
    classes, index = torch.cat([labels, item_labels]).unique(return_inverse=True)
    sizes = torch.bincount(index[len(labels) :], minlength=len(classes))
    by_size = sizes.argsort(stable=True)
    index = by_size.argsort()[index]
    sizes = sizes[by_size]
    starts = sizes.cumsum(0) - sizes
    order, columns = index[: len(labels)].argsort(stable=True), index[len(labels) :].argsort(stable=True)
    own_class = index[order]
    return _Task(
        queries=None if self_retrieval else queries[order],
        gallery=items[columns],
        start=starts[own_class],
        size=sizes[own_class],
        order=order,
        classes=len(classes),
    )


def _score_all(task: _Task, similarity: Similarity | None, block: int | None) -> BlockScores:
    """Scores of all queries, ``(N,)`` each, in the order given."""
    queries = task.gallery if task.queries is None else task.queries
    width = padded_width(len(task.gallery))
    rows = min(
        block or max(1, BLOCK_ENTRIES // (width + WORKING_COPIES * int(task.size.max()))), len(queries)
    )
    buffer = queries.new_empty(max(rows, LEAST_ROWS), width)
    blocks = []
    for first in range(0, len(queries), rows):
        part = slice(first, min(first + rows, len(queries)))
        filled = _fill(buffer, queries[part], task.gallery, similarity)
        own = torch.arange(part.start, part.stop, device=filled.device) if task.queries is None else None
        blocks.append(score_block(filled, task.start[part], task.size[part], own))
    given_order = task.order.argsort()
    return BlockScores(*(torch.cat(column)[given_order] for column in zip(*blocks, strict=True)))


def _fill(buffer: Tensor, queries: Tensor, gallery: Tensor, similarity: Similarity | None) -> Tensor:
    """The block's similarities with ``-inf`` in the padding columns, ``(b, W)``, in the reused buffer."""
    count = len(queries)
    if count < LEAST_ROWS:
        queries = queries[torch.arange(LEAST_ROWS, device=queries.device) % count]
    block = buffer[: len(queries)]
    inside = block[:, : len(gallery)]
    block[:, len(gallery) :] = -torch.inf
    if similarity is None:
        torch.mm(queries, gallery.T, out=inside)
    else:
        inside.copy_(_checked_similarity(similarity, queries, gallery))
    return block[:count]


def _checked_similarity(similarity: Similarity, queries: Tensor, gallery: Tensor) -> Tensor:
    values, expected = similarity(queries, gallery), (len(queries), len(gallery))
    if values.shape != expected:
        raise InputError(f"similarity: found shape {tuple(values.shape)}, expected {expected}")
    if not bool(values.isfinite().all()):
        raise InputError("similarity: found NaN or infinity among its values, expected finite numbers")
    return values


def _summary(scores: BlockScores, ks: list[int], task: _Task) -> RetrievalResult:
    first, average, precision = (score.cpu().numpy() for score in scores)
    defined = ~np.isnan(first)
    return RetrievalResult(
        recall={k: _mean(first[defined] <= k) for k in ks},
        map_at_r=_mean(average[defined]),
        r_precision=_mean(precision[defined]),
        queries=len(first),
        undefined=int((~defined).sum()),
        gallery=len(task.gallery),
        classes=task.classes,
        defined=defined,
        first_rank=first,
        average_precision=average,
        precision_at_r=precision,
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
