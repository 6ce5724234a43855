"""Small batches of test images that are each other's neighbours, for refinement at test time."""

import torch
from torch import Tensor

from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation import search
from pyg_bgformer.evaluation.inputs import Embeddings, checked_pair
from pyg_bgformer.evaluation.search import top_k

BYTES = 8
"""Of an entry; blocks of similarities are counted in entries of four bytes."""


def k_reciprocal_batches(
    embeddings: Embeddings, k: int = 30, batch: int = 7, *, gallery: Embeddings | None = None
) -> Tensor:
    r"""Returns a batch of k-reciprocal neighbours for each image.

    They are those of the test-time refinement of the `"Learning Intra-Batch Connections for Deep Metric Learning"
    <https://arxiv.org/abs/2102.07753>`_ paper.

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
        k: Neighbours of an image.
        batch: Size of a batch, the image itself included, at most ``k + 1``.
        gallery: ``(n, D)``; ``None`` compares the embeddings with each other.

    Returns:
        Rows of the embeddings, ``(N, batch)`` int64, the image itself first, then by distance; with ``gallery``
        rows of the gallery alone, ``(N, batch - 1)``.

    Raises:
        InputError: If sizes do not fit, or an embedding is NaN or infinite.
    """
    queries, items = checked_pair(embeddings, embeddings if gallery is None else gallery)
    if k < 1:
        raise InputError(f"k: found {k}, expected at least 1 neighbour")
    most = min(k + 1, len(items))
    if not 2 <= batch <= most:
        raise InputError(f"batch: found {batch}, expected 2 to {most}, the number of neighbours with k = {k}")
    half = round(k / 2)
    if gallery is None:
        forward = backward = _nearest(queries, items, k + 1, itself=True)
        inner = forward[:, : half + 1]
    else:
        forward = _nearest(queries, items, k + 1, itself=False)
        backward = _nearest(items, queries, k + 1, itself=False)
        inner = _nearest(items, items, half + 1, itself=True)
    mutual, inner_mutual = _mutual(forward, backward), _mutual(inner, inner)
    rows = torch.arange(len(queries), device=queries.device)
    batches = []
    for part in torch.split(rows, _rows_of(forward.size(1) ** 2 * inner.size(1))):
        near = forward[part]
        members, chosen = _members(near, mutual[part], inner, inner_mutual)
        own = part if gallery is None else None
        count = batch if gallery is None else batch - 1
        batches.append(_closest(queries[part], items, near, members, chosen, own, count))
    return torch.cat(batches)


def _rows_of(entries: int) -> int:
    """Returns how many rows of so many entries are held at a time."""
    return max(1, search.BLOCK_ENTRIES // (BYTES * entries))


def _nearest(queries: Tensor, items: Tensor, k: int, *, itself: bool) -> Tensor:
    """Returns the ``k`` nearest items of each query, ``(N, min(k, n))``; with ``itself`` its own row first."""
    squares = items.square().sum(dim=1)

    def closeness(some: Tensor, items: Tensor) -> Tensor:
        return torch.addmm(squares, some, items.T, beta=-1, alpha=2)  # less the query's square

    if not itself:
        return top_k(queries, items, k, similarity=closeness).ids
    own = torch.arange(len(queries), device=queries.device)
    if k == 1:
        return own[:, None]
    others = top_k(queries, items, k - 1, similarity=closeness, exclude=own).ids
    return torch.cat([own[:, None], others], dim=1)


def _mutual(forward: Tensor, backward: Tensor) -> Tensor:
    """Returns ``(N, k)``: whether the row of each neighbour holds the row itself."""
    rows = torch.arange(len(forward), device=forward.device)
    parts = torch.split(rows, _rows_of(forward.size(1) * backward.size(1)))
    return torch.cat([(backward[forward[part]] == part[:, None, None]).any(dim=2) for part in parts])


def _members(near: Tensor, mutual: Tensor, inner: Tensor, inner_mutual: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the candidates of each row's batch ``(b, C)``, and which of them are members."""
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
    """Returns ``(b, count)``: ``first`` of each row, then members, then others of ``near``, both by distance."""
    chosen_row, place = chosen.nonzero(as_tuple=True)
    rows = torch.arange(len(queries), device=near.device)
    neighbours = (rows[:, None] * len(items) + near).flatten()
    pairs = torch.cat([chosen_row * len(items) + members[chosen_row, place], neighbours])
    pairs, origin = torch.unique(pairs, return_inverse=True)
    is_member = torch.zeros_like(pairs, dtype=torch.bool).index_fill_(0, origin[: len(chosen_row)], True)
    row: Tensor = pairs // len(items)
    item: Tensor = pairs % len(items)
    distance = (queries[row] - items[item]).square().sum(dim=1)
    if first is not None:
        distance = distance.masked_fill(item == first[row], -1.0)
    # Stable sorts from the last criterion to the first; rows of ``pairs`` come by item already.
    order = distance.argsort(stable=True)
    for criterion in (~is_member, row):
        order = order[criterion[order].argsort(stable=True)]
    start = torch.searchsorted(row[order], rows)
    return item[order][start[:, None] + torch.arange(count, device=row.device)]
