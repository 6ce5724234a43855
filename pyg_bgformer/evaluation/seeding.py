"""First centres for k-means, at a speed that allows thousands of clusters."""

import math

import numpy as np
import torch
from torch import Tensor

from pyg_bgformer.evaluation.search import BLOCK_ENTRIES

ROUNDS = 64
"""Draws of candidates from which on the clusters came out as good as with a draw for every centre."""


def greedy_seeds(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Returns rows to start k-means from, by greedy k-means++ that draws many candidates at a time.

    Greedy k-means++ (Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", 2007; the
    default of scikit-learn) draws ``2 + log(count)`` candidates for each centre with probability in proportion
    to the squared distance to the nearest centre so far, and keeps the one that leaves the smallest sum of
    squared distances. Here the candidates of up to ``count / ROUNDS`` centres are drawn together, so that
    their distances are one matrix product; the choice among them is made one centre after the other, with
    exact distances. Below ``2 * ROUNDS`` centres nothing differs.

    Args:
        points: ``(N, D)`` float32, centred: distances are taken from norms and dot products.
        count: Number of centres, at most N.
        generator: Of the draws; equal generators give equal rows.

    Returns:
        ``(count,)`` int64 row numbers, distinct unless there are fewer distinct points.
    """
    rows = len(points)
    trials = 2 + int(math.log(count))
    together = max(1, min(count // ROUNDS, BLOCK_ENTRIES // (trials * rows)))
    norms = points.square().sum(dim=1)
    chosen = torch.randint(rows, (1,), generator=generator)
    nearest = _squared_distances(points, norms, chosen)[0]
    while len(chosen) < count:
        draws = min(together, count - len(chosen))
        candidates = _draw(nearest, draws * trials, generator)
        distances = _squared_distances(points, norms, candidates).view(draws, trials, rows)
        best, nearest = _choose(distances, nearest)
        chosen = torch.cat([chosen, candidates.view(draws, trials).gather(1, best[:, None])[:, 0]])
    return chosen


def _choose(distances: Tensor, nearest: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the best candidate of each draw, given those chosen before it.

    In NumPy: the steps are many and short, and torch spends more on sharing one among threads than on it.

    Args:
        distances: ``(draws, trials, N)`` squared distances of the candidates, overwritten.
        nearest: ``(N,)`` squared distance to the nearest centre so far.

    Returns:
        Which of the trials, ``(draws,)`` int64, and the new ``nearest``.
    """
    best = np.empty(len(distances), dtype=np.int64)
    left = nearest.numpy()
    for draw, rivals in enumerate(distances.numpy()):
        np.minimum(rivals, left, out=rivals)
        best[draw] = rivals.sum(axis=1).argmin()
        left = rivals[best[draw]]
    return torch.from_numpy(best), torch.from_numpy(left.copy())


def _squared_distances(points: Tensor, norms: Tensor, rows: Tensor) -> Tensor:
    """Returns squared Euclidean distances ``(len(rows), N)`` from some of the points to all."""
    distances = torch.mm(points[rows], points.T).mul_(-2).add_(norms).add_(norms[rows, None]).clamp_(min=0)
    return distances.scatter_(1, rows[:, None], 0)


def _draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Returns row numbers ``(count,)`` drawn in proportion to the weights; uniformly where all weights are 0."""
    cumulative = weights.double().cumsum(0)
    if cumulative[-1] == 0:
        return torch.randint(len(weights), (count,), generator=generator)
    thresholds = cumulative[-1] * (1 - torch.rand(count, generator=generator, dtype=torch.float64))
    return torch.searchsorted(cumulative, thresholds)
