"""Exact nearest-neighbour search in bounded memory."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation.inputs import Embeddings, Labels, checked_labels, checked_pair, unit_rows
from pyg_bgformer.graph import nearest

SimilarityFunction = Callable[[Tensor, Tensor], Tensor]
"""Maps queries ``(b, D)`` and gallery ``(n, D)`` to finite similarities ``(b, n)``. Larger means more alike."""

BLOCK_ENTRIES = 2**25
"""Similarities in memory at a time, 128 MB. Smaller blocks slow the matrix product, larger blocks gain nothing."""

RUN = 64
"""Number of neighbouring columns that share one maximum. The width of a block is a multiple of it."""

LEAST_ROWS = 8
"""Smallest number of queries in a matrix product. For one query BLAS uses another routine, in which equal rows of
the gallery get similarities that differ in the last bit. Exact ties would be lost."""


class Neighbours(NamedTuple):
    """The most similar gallery items of each query, most similar first.

    Attributes:
        ids: ``(N, k)`` int64, row numbers of the gallery.
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
    exclude: Labels | None = None,
    block: int | None = None,
) -> Neighbours:
    """Returns the k most similar gallery items of each query. Equally similar items are ordered by index.

    The search is exact. It needs a float32 copy of the gallery and a few blocks of similarities in memory. The
    number of queries does not matter.

    Args:
        queries: ``(N, D)``, floating point of any precision. The search runs in float32 on their device.
        gallery: ``(n, D)``, floating point.
        k: Number of neighbours, from 1.
        similarity: Called with float32 queries ``(b, D)`` and the whole float32 gallery ``(n, D)``. ``None`` is the
            dot product of L2-normalised rows.
        exclude: ``(N,)`` whole numbers: the gallery row that each query must not find, for example itself.
        block: Number of queries at a time. ``None`` fills :data:`BLOCK_ENTRIES` similarities.

    Returns:
        ``k`` neighbours of each query, on the queries' device. There are fewer if the gallery has fewer items.

    Raises:
        InputError: If shapes do not fit, ``k`` or ``block`` is below 1, an excluded row does not exist, or an
            embedding or a similarity is NaN or infinite.
    """
    rows, items = checked_pair(queries, gallery)
    own = None if exclude is None else checked_labels(exclude, len(rows), "exclude").to(rows.device)
    if own is not None and (own.min() < 0 or own.max() >= len(items)):
        raise InputError(
            f"exclude: found rows from {own.min()} to {own.max()}, expected 0 to {len(items) - 1}, "
            "rows of the gallery"
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
    """Yields the similarities of a few queries at a time to the whole gallery.

    Args:
        queries: ``(N, D)`` float32.
        gallery: ``(n, D)`` float32.
        similarity: ``None`` is the dot product.
        rows: Number of queries at a time. ``None`` fills :data:`BLOCK_ENTRIES` entries.
        spare: Number of entries that the caller needs for each query besides its similarities.

    Yields:
        The slice of the queries and their similarities ``(b, padded_width(n))``, padded with ``-inf``. All blocks
        share one buffer: the next block overwrites it, and the caller may do so too.

    Raises:
        InputError: If ``rows`` is below 1, or ``similarity`` returns NaN, infinity or another shape.
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
    """Returns the smallest multiple of :data:`RUN` above ``gallery``, so that at least one column is spare."""
    return (gallery // RUN + 1) * RUN


def first_largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns the k largest entries of each row, in descending order. Equal entries are ordered by column.

    The k largest entries are in the k runs of columns with the largest maxima. Only those runs are searched.

    Args:
        values: ``(b, W)`` without NaN.
        k: At most W.

    Returns:
        The entries ``(b, k)`` and their columns ``(b, k)`` int64.
    """
    if k * RUN >= values.size(1):
        columns = (
            nearest(values, k).nonzero()[:, 1].view(-1, k)
        )  # ascending: the stable sort keeps this order
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
        raise InputError("similarity: found NaN or infinity, expected finite numbers")
    return values
