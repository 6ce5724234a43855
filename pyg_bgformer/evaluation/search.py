"""The most similar gallery items of each query, exact and in bounded memory."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation.inputs import Embeddings, checked_pair, unit_rows
from pyg_bgformer.graph import nearest

SimilarityFunction = Callable[[Tensor, Tensor], Tensor]
"""``(b, D)`` queries and ``(n, D)`` gallery to ``(b, n)`` finite similarities, larger = more alike."""

BLOCK_ENTRIES = 2**25
"""Similarities held at a time, 128 MB: smaller blocks slow the matrix product, larger blocks gain nothing."""

RUN = 64
"""Neighbouring similarities that share one maximum; the width of a block is a multiple of it."""

LEAST_ROWS = 8
"""Queries that a matrix product is given at least. For a single query BLAS multiplies by a vector. Equal rows of
the gallery then get similarities that differ in the last bit, and exact ties would be lost."""


class Neighbours(NamedTuple):
    """The most similar gallery items of each query, the most similar one first.

    Attributes:
        ids: ``(N, k)`` int64, rows of the gallery.
        similarities: ``(N, k)`` float32.
    """

    ids: Tensor
    similarities: Tensor


def top_k(
    queries: Embeddings,
    gallery: Embeddings,
    k: int,
    *,
    similarity: SimilarityFunction | None = None,
    exclude: Tensor | np.ndarray | None = None,
    block: int | None = None,
) -> Neighbours:
    """Returns the k most similar gallery items of each query; of equally similar ones the lower index is first.

    The search is exact. Besides a float32 copy of the gallery it needs memory for a few blocks of similarities,
    whatever the number of queries is.

    Args:
        queries: ``(N, D)`` of any floating precision, on any device; computed in float32 there.
        gallery: ``(n, D)``.
        k: Number of neighbours.
        similarity: Called with float32 queries ``(b, D)`` and the whole gallery. ``None`` is the dot product of
            L2-normalised rows.
        exclude: ``(N,)`` whole numbers, the gallery row that each query must not find, for example itself.
        block: Queries at a time; ``None`` takes as many as make :data:`BLOCK_ENTRIES` similarities.

    Returns:
        ``k`` neighbours of each query, or all there are where the gallery has fewer.

    Raises:
        InputError: If shapes do not fit, ``k`` is below 1, an excluded row does not exist, or an embedding or a
            similarity is NaN or infinite.
    """
    rows, items = checked_pair(queries, gallery)
    own = None if exclude is None else torch.as_tensor(exclude, device=rows.device)
    if own is not None and (own.shape != (len(rows),) or own.min() < 0 or own.max() >= len(items)):
        raise InputError(
            f"exclude: expected {len(rows)} gallery rows from 0 to {len(items) - 1}, one a query"
        )
    if k < 1:
        raise InputError(f"k: found {k}, expected at least 1 neighbour")
    k = min(k, len(items) - (own is not None))
    if similarity is None:
        rows, items = unit_rows(rows), unit_rows(items)
    ids, values = [], []
    with torch.no_grad(), torch.autocast(items.device.type, enabled=False):
        for part, similarities in similarity_blocks(rows, items, similarity, rows=block):
            if own is not None:
                similarities.scatter_(1, own[part, None], -torch.inf)
            largest, places = first_largest(similarities, k)
            values.append(largest)
            ids.append(places)
    return Neighbours(torch.cat(ids), torch.cat(values))


def similarity_blocks(
    queries: Tensor,
    gallery: Tensor,
    similarity: SimilarityFunction | None,
    *,
    rows: int | None = None,
    spare: int = 0,
) -> Iterator[tuple[slice, Tensor]]:
    """Yields the similarities of some queries at a time to the whole gallery, in one reused buffer.

    Args:
        queries: ``(N, D)`` float32.
        gallery: ``(n, D)`` float32.
        similarity: ``None`` is the dot product.
        rows: Queries at a time; ``None`` takes as many as make :data:`BLOCK_ENTRIES` entries.
        spare: Entries that the caller needs for a query besides its similarities.

    Yields:
        Which queries, and their similarities ``(b, padded_width(n))``. The padding is ``-inf``. The caller may
        overwrite them; the next block does.

    Raises:
        InputError: If ``rows`` is below 1, or ``similarity`` gives NaN, infinity or another shape.
    """
    if rows is not None and rows < 1:
        raise InputError(f"block: found {rows}, expected at least 1 query at a time")
    width = padded_width(len(gallery))
    rows = min(rows or max(1, BLOCK_ENTRIES // (width + spare)), len(queries))
    buffer = queries.new_empty(max(rows, LEAST_ROWS), width)
    for first in range(0, len(queries), rows):
        some = queries[first : first + rows]
        count = len(some)
        if count < LEAST_ROWS:
            some = some[torch.arange(LEAST_ROWS, device=some.device) % count]
        block = buffer[: len(some)]
        block[:, len(gallery) :] = -torch.inf
        if similarity is None:
            torch.mm(some, gallery.T, out=block[:, : len(gallery)])
        else:
            block[:, : len(gallery)] = _checked(similarity(some, gallery), (len(some), len(gallery)))
        yield slice(first, first + count), block[:count]


def padded_width(gallery: int) -> int:
    """Returns the columns for ``gallery`` items and at least one spare one, a multiple of :data:`RUN`."""
    return (gallery // RUN + 1) * RUN


def first_largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns the k largest entries of each row, descending, and their columns; of equals the lowest column.

    They lie in the k runs of columns whose maxima are the k largest ones, so only those runs are searched.

    Args:
        values: ``(b, W)`` without NaN.
        k: At most W.
    """
    if k * RUN >= values.size(1):
        columns = nearest(values, k).nonzero()[:, 1].view(-1, k)  # ascending, for the order of equals
        largest, order = values.gather(1, columns).sort(dim=1, descending=True, stable=True)
        return largest, columns.gather(1, order)
    if values.size(1) % RUN:
        values = F.pad(values, (0, -values.size(1) % RUN), value=-torch.inf)
    runs = values.view(len(values), -1, RUN)
    best = first_largest(runs.amax(dim=2), k)[1].sort(dim=1).values
    inside = runs.gather(1, best[:, :, None].expand(-1, -1, RUN)).flatten(1)
    largest, places = first_largest(inside, k)
    return largest, best.gather(1, places // RUN) * RUN + places % RUN


def _checked(values: Tensor, expected: tuple[int, int]) -> Tensor:
    if values.shape != expected:
        raise InputError(f"similarity: found shape {tuple(values.shape)}, expected {expected}")
    if not all(extreme.isfinite() for extreme in values.aminmax()):
        raise InputError("similarity: found NaN or infinity among its values, expected finite numbers")
    return values
