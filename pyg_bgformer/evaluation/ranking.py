"""Ranks of the positives within one block of similarities, without sorting a whole row."""

from typing import NamedTuple

import torch
from torch import Tensor

from pyg_bgformer.evaluation.search import RUN

DENSE = 0.25
"""Share of runs from which on reading them all is faster than picking them out."""


class BlockScores(NamedTuple):
    """Scores of the ``b`` queries of one block, each ``(b,)`` float64, NaN where a query has no positive."""

    first_rank: Tensor
    average_precision: Tensor
    r_precision: Tensor


def score_block(similarity: Tensor, start: Tensor, size: Tensor, own: Tensor | None) -> BlockScores:
    r"""Returns the scores of a block of queries against a gallery whose columns are grouped by class.

    With the positives of a query in descending order of similarity :math:`s_1 \ge s_2 \ge \dots \ge s_R`,

    .. math::
        \mathrm{rank}_i = i + \#\{\text{negatives with similarity} \ge s_i\},

    so a negative exactly as similar as a positive stands before it, whatever the order of the rows.

    Args:
        similarity: ``(b, W)``, ``W = padded_width(gallery)``, finite, its padding ``-inf``; **overwritten**.
        start: ``(b,)`` first column of each query's class.
        size: ``(b,)`` number of columns of each query's class, 0 where the gallery lacks the class.
        own: ``(b,)`` the column that is the query itself, excluded; ``None`` when there is none.
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
    """Removes the positives from the block; returns them as ``(b, R_max)``, descending, then ``-inf``."""
    spare = similarity.shape[1] - 1
    offset = torch.arange(max(int(size.max()), 1), device=similarity.device)
    column = torch.where(offset < size[:, None], start[:, None] + offset, spare)
    positives = similarity.gather(1, column)
    similarity.scatter_(1, column, -torch.inf)
    return positives.sort(dim=1, descending=True).values


def count_at_least(values: Tensor, maxima: Tensor, threshold: Tensor) -> Tensor:
    """Returns how many entries of each row of ``(b, W)`` reach the row's threshold, ``(b,)`` int64.

    Only runs whose maximum reaches it are looked into, unless they are so many that reading whole rows is
    faster than picking them out.
    """
    reached = maxima >= threshold[:, None]
    if reached.sum() > DENSE * reached.numel():
        return _short_sum((values >= threshold[:, None]).view(len(values), RUN, -1)).sum(dim=1)
    row, run = reached.nonzero(as_tuple=True)
    inside = values.view(len(values), -1, RUN)[row, run] >= threshold[row, None]
    count = torch.zeros_like(threshold, dtype=torch.int64)
    return count.index_add_(0, row, _short_sum(inside).long())


def _short_sum(truths: Tensor) -> Tensor:
    """Returns the number of true entries along dimension 1, which is shorter than 256, as uint8.

    Summed in bytes because torch widens a sum of truth values to int64 entry by entry, which takes eight
    times as long.
    """
    return truths.view(torch.uint8).sum(dim=1, dtype=torch.uint8)


def largest(values: Tensor, maxima: Tensor, count: int) -> Tensor:
    """Returns the ``count`` largest values of each row of ``(b, W)``, descending, ``(b, count)``.

    They lie in the ``count`` runs with the largest maxima, so only those runs are searched.
    """
    if count * RUN >= values.shape[1]:
        return values.topk(count, dim=1).values
    best = maxima.topk(count, dim=1).indices
    runs = values.view(len(values), -1, RUN).gather(1, best[:, :, None].expand(-1, -1, RUN))
    return runs.flatten(1).topk(count, dim=1).values


def _precisions_at_r(positives: Tensor, rivals: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Returns R-precision and average precision at R of each row, ``(b,)`` float64.

    The ``R`` most similar negatives suffice: a positive behind ``R`` negatives has a rank above ``R``.

    Args:
        positives: ``(b, R_max)`` descending, ``-inf`` behind the last.
        rivals: ``(b, R_max)`` the largest similarities of negatives, descending.
        size: ``(b,)`` R of each row.
    """
    place = torch.arange(1, positives.shape[1] + 1, device=positives.device)
    rank = place + torch.searchsorted(-rivals, -positives, right=True)
    hit = (rank <= size[:, None]) & (place <= size[:, None])
    found = hit.sum(dim=1) / size.double()
    average = (hit * (place / rank.double())).sum(dim=1) / size
    return found, average
