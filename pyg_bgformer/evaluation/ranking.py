"""Ranks of the positives in one block of similarities, without sorting whole rows."""

from typing import NamedTuple

import torch
from torch import Tensor

from pyg_bgformer.evaluation.search import RUN

DENSE = 0.25
"""If more than this share of the runs is needed, it is faster to read all of them than to select some."""


class BlockScores(NamedTuple):
    """Scores of the ``b`` queries of a block, each ``(b,)`` float64. Queries without a positive have NaN."""

    first_rank: Tensor
    average_precision: Tensor
    r_precision: Tensor


def score_block(similarity: Tensor, start: Tensor, size: Tensor, own: Tensor | None) -> BlockScores:
    r"""Returns the scores of a block of queries. The columns of the gallery are grouped by class.

    With the positives of a query in descending order of similarity :math:`s_1 \ge s_2 \ge \dots \ge s_R`,

    .. math::
        \mathrm{rank}_i = i + \#\{\text{negatives with similarity} \ge s_i\}.

    A negative that is exactly as similar as a positive therefore ranks before it.

    Args:
        similarity: ``(b, W)`` with ``W = padded_width(gallery)``: finite, padded with ``-inf``. **Overwritten.**
        start: ``(b,)`` int64, first column of each query's class.
        size: ``(b,)`` int64, number of columns of each query's class, 0 if the gallery lacks the class.
        own: ``(b,)`` int64, the column of the query itself, which is excluded. ``None`` excludes nothing.
    """
    if own is not None:
        similarity.scatter_(1, own[:, None], -torch.inf)
        size = size - 1
    positives = _take_positives(similarity, start, size + (own is not None))
    defined = size > 0
    best = torch.where(defined, positives[:, 0], torch.inf)
    maxima = similarity.view(len(similarity), -1, RUN).amax(dim=2)
    first_rank = 1 + count_at_least(similarity, maxima, best)
    rivals = largest(similarity, maxima, min(positives.shape[1], similarity.shape[1]))
    precision, average = _precisions_at_r(positives, rivals, size)
    scores = (first_rank, average, precision)
    return BlockScores(*(score.double().where(defined, torch.nan) for score in scores))


def _take_positives(similarity: Tensor, start: Tensor, size: Tensor) -> Tensor:
    """Removes the positives from the block. Returns them ``(b, R_max)`` in descending order, then ``-inf``."""
    spare = similarity.shape[1] - 1
    offset = torch.arange(max(int(size.max()), 1), device=similarity.device)
    column = torch.where(offset < size[:, None], start[:, None] + offset, spare)
    positives = similarity.gather(1, column)
    similarity.scatter_(1, column, -torch.inf)
    return positives.sort(dim=1, descending=True).values


def count_at_least(values: Tensor, maxima: Tensor, threshold: Tensor) -> Tensor:
    """Returns the number of entries of each row that are at least the row's threshold, ``(b,)`` int64.

    The function reads only the runs whose maximum reaches the threshold. If these are many, it reads whole rows,
    which is then faster.

    Args:
        values: ``(b, W)``, W a multiple of :data:`~pyg_bgformer.evaluation.search.RUN`.
        maxima: ``(b, W / RUN)``, the largest value of each run.
        threshold: ``(b,)``.
    """
    reached = maxima >= threshold[:, None]
    if reached.sum() > DENSE * reached.numel():
        return _short_sum((values >= threshold[:, None]).view(len(values), RUN, -1)).sum(dim=1)
    row, run = reached.nonzero(as_tuple=True)
    inside = values.view(len(values), -1, RUN)[row, run] >= threshold[row, None]
    count = torch.zeros_like(threshold, dtype=torch.int64)
    return count.index_add_(0, row, _short_sum(inside).long())


def _short_sum(truths: Tensor) -> Tensor:
    """Returns the number of true entries along dimension 1, as uint8. That dimension is shorter than 256.

    For a sum of truth values, torch converts each entry to int64. A sum of bytes is eight times as fast.
    """
    return truths.view(torch.uint8).sum(dim=1, dtype=torch.uint8)


def largest(values: Tensor, maxima: Tensor, count: int) -> Tensor:
    """Returns the ``count`` largest values of each row, ``(b, count)`` in descending order.

    They are in the ``count`` runs with the largest maxima. Only those runs are searched.

    Args:
        values: ``(b, W)``, W a multiple of :data:`~pyg_bgformer.evaluation.search.RUN`.
        maxima: ``(b, W / RUN)``, the largest value of each run.
        count: At most W.
    """
    if count * RUN >= values.shape[1]:
        return values.topk(count, dim=1).values
    best = maxima.topk(count, dim=1).indices
    runs = values.view(len(values), -1, RUN).gather(1, best[:, :, None].expand(-1, -1, RUN))
    return runs.flatten(1).topk(count, dim=1).values


def _precisions_at_r(positives: Tensor, rivals: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Returns R-precision and average precision at R of each row, ``(b,)`` float64.

    The ``R`` most similar negatives are enough: a positive after ``R`` negatives has a rank above ``R``.

    Args:
        positives: ``(b, R_max)`` in descending order, then ``-inf``.
        rivals: ``(b, R_max)``, the largest similarities of negatives, in descending order.
        size: ``(b,)``, R of each row.
    """
    place = torch.arange(1, positives.shape[1] + 1, device=positives.device)
    rank = place + torch.searchsorted(-rivals, -positives, right=True)
    hit = (rank <= size[:, None]) & (place <= size[:, None])
    found = hit.sum(dim=1) / size.double()
    average = (hit * (place / rank.double())).sum(dim=1) / size
    return found, average
