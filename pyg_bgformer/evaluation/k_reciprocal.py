"""Small batches of test images that are neighbours of each other, for refinement at test time."""

import torch
from torch import Tensor

from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation import search
from pyg_bgformer.evaluation.inputs import Embeddings, checked_pair
from pyg_bgformer.evaluation.search import top_k

ROOM = 8
"""Entries of a block that are reserved for each comparison of two neighbours."""


def k_reciprocal_batches(
    embeddings: Embeddings, k: int = 30, batch: int = 7, *, gallery: Embeddings | None = None
) -> Tensor:
    r"""Returns a batch of k-reciprocal neighbours for each image.

    The batches are those of the test-time refinement in the `"Learning Intra-Batch Connections for Deep Metric
    Learning" <https://arxiv.org/abs/2102.07753>`_ paper.

    Let :math:`\mathcal{N}_k(i)` be the :math:`k + 1` nearest images of :math:`i`, itself among them, and
    :math:`\mathcal{R}_k(i) = \{ j \in \mathcal{N}_k(i) : i \in \mathcal{N}_k(j) \}`. With
    :math:`h = \textrm{round}(k / 2)`, the members of the batch of :math:`i` are

    .. math::
        \mathcal{R}_k(i) \cup \bigcup \left\{ \mathcal{R}_h(c) : c \in \mathcal{R}_k(i), \;
        \vert \mathcal{R}_h(c) \cap \mathcal{R}_k(i) \vert > \tfrac{2}{3} \vert \mathcal{R}_h(c) \vert \right\}

    The batch takes the members nearest to :math:`i`. If there are too few, the nearest other images fill it. With a
    ``gallery``, :math:`\mathcal{N}_k(i)` are gallery items for a query and queries for a gallery item, and
    :math:`\mathcal{R}_h` is formed within the gallery.

    Distances are Euclidean. At equal distance the lower row counts as nearer. The function needs memory for the
    :math:`k + 1` neighbours of each row and a few blocks.

    Args:
        embeddings: ``(N, D)``, floating point: the images, or the queries if there is a ``gallery``.
        k: Number of neighbours of an image, from 1.
        batch: Size of a batch with the image itself, from 2 to ``k + 1``. It must not exceed the gallery's size.
        gallery: ``(n, D)``, floating point. ``None`` compares the embeddings with each other.

    Returns:
        Row numbers ``(N, batch)`` int64: the image itself, then members, then other images, both by distance. With
        ``gallery``, ``(N, batch - 1)`` row numbers of the gallery.

    Raises:
        InputError: If ``k`` or ``batch`` is out of range, shapes do not fit, or an embedding is NaN or infinite.
    """
    queries, items = checked_pair(embeddings, embeddings if gallery is None else gallery)
    if k < 1:
        raise InputError(f"k: found {k}, expected at least 1 neighbour")
    most = min(k + 1, len(items))
    if not 2 <= batch <= most:
        raise InputError(f"batch: found {batch}, expected 2 to {most} with k = {k} and {len(items)} images")
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
    """Returns how many rows with this number of comparisons fit into a block."""
    return max(1, search.BLOCK_ENTRIES // (ROOM * entries))


def _nearest(queries: Tensor, items: Tensor, k: int, *, itself: bool) -> Tensor:
    """Returns the ``k`` nearest items of each query, ``(N, min(k, n))``. With ``itself``, its own row is first."""
    squares = items.square().sum(dim=1)

    def closeness(some: Tensor, items: Tensor) -> Tensor:
        return torch.addmm(squares, some, items.T, beta=-1, alpha=2)  # |q|² - |q - c|² = 2 q·c - |c|²

    if not itself:
        return top_k(queries, items, k, similarity=closeness).ids
    own = torch.arange(len(queries), device=queries.device)
    if k == 1:
        return own[:, None]
    others = top_k(queries, items, k - 1, similarity=closeness, exclude=own).ids
    return torch.cat([own[:, None], others], dim=1)


def _mutual(forward: Tensor, backward: Tensor) -> Tensor:
    """Returns ``(N, k)``: whether each neighbour of a row has the row among its own neighbours."""
    rows = torch.arange(len(forward), device=forward.device)
    parts = torch.split(rows, _rows_of(forward.size(1) * backward.size(1)))
    return torch.cat([(backward[forward[part]] == part[:, None, None]).any(dim=2) for part in parts])


def _members(near: Tensor, mutual: Tensor, inner: Tensor, inner_mutual: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the candidates for the batch of each row ``(b, C)``, and which of them are members ``(b, C)``."""
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
    """Returns ``(b, count)``: ``first`` of each row, then its members, then others of ``near``, by distance."""
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
    # Stable sorts, from the last criterion to the first. The pairs are already sorted by item.
    order = distance.argsort(stable=True)
    for criterion in (~is_member, row):
        order = order[criterion[order].argsort(stable=True)]
    start = torch.searchsorted(row[order], rows)
    return item[order][start[:, None] + torch.arange(count, device=row.device)]
