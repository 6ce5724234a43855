"""Small batches of test images that are each other's neighbours, for refinement at test time."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation.inputs import Embeddings, checked_embeddings
from pyg_bgformer.graph import nearest

BLOCK_ENTRIES = 2**22
"""Entries held at a time of whatever grows with the product of two sizes."""


def k_reciprocal_batches(
    embeddings: Embeddings, k: int = 30, batch: int = 7, *, gallery: Embeddings | None = None
) -> Tensor:
    r"""For each image a batch of its k-reciprocal neighbours, as in the test-time refinement of the `"Learning
    Intra-Batch Connections for Deep Metric Learning" <https://arxiv.org/abs/2102.07753>`_ paper.

    Let :math:`\mathcal{N}_k(i)` be the :math:`k + 1` nearest images of :math:`i`, itself among them, and
    :math:`\mathcal{R}_k(i) = \{ j \in \mathcal{N}_k(i) : i \in \mathcal{N}_k(j) \}`. With
    :math:`h = \textrm{round}(k / 2)`, the members of the batch of :math:`i` are

    .. math::
        \mathcal{R}_k(i) \cup \bigcup \left\{ \mathcal{R}_h(c) : c \in \mathcal{R}_k(i), \;
        \vert \mathcal{R}_h(c) \cap \mathcal{R}_k(i) \vert > \tfrac{2}{3} \vert \mathcal{R}_h(c) \vert \right\}

    of which those nearest to :math:`i` are taken, and where they are too few the nearest other images. With a
    ``gallery``, :math:`\mathcal{N}_k(i)` are gallery items for a query and queries for a gallery item, and
    :math:`\mathcal{R}_h` is formed within the gallery.

    Distances are Euclidean; of equal ones the row that comes first counts as nearer. Memory is that of the
    :math:`k + 1` neighbours of each row and a few blocks, whatever the number of rows is.

    Args:
        embeddings: ``(N, D)``, the images; with ``gallery`` the queries.
        k: neighbours of an image.
        batch: size of a batch, the image itself included, at most ``k + 1``.
        gallery: ``(n, D)``; ``None`` compares the embeddings with each other.

    Returns:
        Rows of the embeddings, ``(N, batch)`` int64, the image itself first, then by distance; with ``gallery``
        rows of the gallery alone, ``(N, batch - 1)``.

    Raises:
        InputError: Sizes that do not fit, or NaN or infinity in the embeddings.
    """
    queries = checked_embeddings(embeddings)
    items = queries if gallery is None else checked_embeddings(gallery, "gallery").to(queries.device)
    _check_sizes(queries, items, k, batch)
    half = round(k / 2)
    if gallery is None:
        forward = backward = _nearest_rows(queries, items, k + 1, itself=True)
        inner = forward[:, : half + 1]
    else:
        forward = _nearest_rows(queries, items, k + 1, itself=False)
        backward = _nearest_rows(items, queries, k + 1, itself=False)
        inner = _nearest_rows(items, items, half + 1, itself=True)
    with_gallery = gallery is not None
    mutual, inner_mutual = _mutual(forward, backward), _mutual(inner, inner)
    width = forward.size(1)
    batches = []
    for part in _parts(len(queries), width * width * inner.size(1)):
        near, is_mutual = forward[part], mutual[part]
        members, chosen = _members(near, is_mutual, inner, inner_mutual)
        first = None if with_gallery else torch.arange(part.start, part.stop, device=near.device)
        batches.append(_closest(queries[part], items, near, members, chosen, first, batch - with_gallery))
    return torch.cat(batches)


def _check_sizes(queries: Tensor, items: Tensor, k: int, batch: int) -> None:
    if queries.size(1) != items.size(1):
        raise InputError(
            f"gallery: found {items.size(1)} dimensions, expected {queries.size(1)} as the queries have"
        )
    if k < 1:
        raise InputError(f"k: found {k}, expected at least 1 neighbour")
    most = min(k + 1, len(items))
    if not 2 <= batch <= most:
        raise InputError(
            f"batch: found {batch}, expected 2 to {most}, the neighbours that there are with k = {k}"
        )


def _parts(count: int, entries: int) -> Iterator[slice]:
    """Slices of ``count`` rows of so many entries; of nearly equal length, so that none is a single row."""
    number = -(-count * entries // BLOCK_ENTRIES)
    bounds = [count * i // number for i in range(number + 1)]
    return (slice(a, b) for a, b in pairwise(bounds) if a < b)


def _nearest_rows(queries: Tensor, items: Tensor, k: int, *, itself: bool) -> Tensor:
    """The ``k`` nearest items of each query by distance, ``(N, min(k, n))``; with ``itself`` its own row first."""
    k = min(k, len(items))
    squares = items.square().sum(dim=1)
    rows = []
    for part in _parts(len(queries), len(items)):
        closeness = torch.addmm(squares, queries[part], items.T, beta=-1, alpha=2)  # less the query's square
        if itself:
            own = torch.arange(part.start, part.stop, device=items.device)
            closeness.scatter_(1, own[:, None], torch.inf)
        found = nearest(closeness, k).nonzero()[:, 1].view(-1, k)
        order = closeness.gather(1, found).argsort(dim=1, descending=True, stable=True)
        rows.append(found.gather(1, order))
    return torch.cat(rows)


def _mutual(forward: Tensor, backward: Tensor) -> Tensor:
    """``(N, k)``: whether the row of each neighbour holds the row itself."""
    rows = torch.arange(len(forward), device=forward.device)
    parts = _parts(len(forward), forward.size(1) * backward.size(1))
    return torch.cat([(backward[forward[p]] == rows[p, None, None]).any(dim=2) for p in parts])


def _members(near: Tensor, mutual: Tensor, inner: Tensor, inner_mutual: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates of each row's batch ``(b, C)``, and which of them are members."""
    theirs, theirs_mutual = inner[near], inner_mutual[near] & mutual[:, :, None]  # (b, k, h)
    shared = (theirs[..., None] == near[:, None, None, :]) & mutual[:, None, None, :]
    both = (shared.any(dim=3) & theirs_mutual).sum(dim=2)
    taken = theirs_mutual & (3 * both > 2 * theirs_mutual.sum(dim=2))[:, :, None]
    return torch.cat([near, theirs.flatten(1)], dim=1), torch.cat([mutual, taken.flatten(1)], dim=1)


def _closest(
    queries: Tensor,
    items: Tensor,
    near: Tensor,
    members: Tensor,
    chosen: Tensor,
    first: Tensor | None,
    count: int,
) -> Tensor:
    """``(b, count)``: of each row ``first``, then members by distance, then others of ``near`` by distance."""
    row, place = chosen.nonzero(as_tuple=True)
    pairs = torch.cat([row * len(items) + members[row, place], _numbered(near, len(items))])
    pairs, origin = pairs.unique(return_inverse=True)
    is_member = torch.zeros_like(pairs, dtype=torch.bool).index_fill_(0, origin[: len(row)], True)
    row, item = pairs // len(items), pairs % len(items)
    distance = (queries[row] - items[item]).square().sum(dim=1)
    if first is not None:
        distance = distance.masked_fill(item == first[row], -1.0)
    # Stable sorts from the last criterion to the first; rows of ``pairs`` come by item already.
    order = distance.argsort(stable=True)
    for criterion in (~is_member, row):
        order = order[criterion[order].argsort(stable=True)]
    start = torch.searchsorted(row[order], torch.arange(len(queries), device=row.device))
    return item[order][start[:, None] + torch.arange(count, device=row.device)]


def _numbered(near: Tensor, width: int) -> Tensor:
    return (torch.arange(len(near), device=near.device)[:, None] * width + near).flatten()
